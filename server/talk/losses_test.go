package talk

import (
	"context"
	"testing"
)

func TestACallThatLostWaitsNoMore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	Lose(ctx)
	if Lost(ctx) {
		t.Error("what is no call has lost")
	}
	one, other := context.WithValue(ctx, LossesKey{}, &Losses{}), context.WithValue(ctx, LossesKey{}, &Losses{})
	if Lost(one) {
		t.Error("it has lost before it waited")
	}
	Lose(context.WithoutCancel(one))
	if !Lost(one) || Lost(other) {
		t.Errorf("the one has lost: %t, the other: %t", Lost(one), Lost(other))
	}
	one.Value(LossesKey{}).(*Losses).last.Add(-int64(lossLasts))
	if Lost(one) {
		t.Error("a second later it has still lost")
	}
}
