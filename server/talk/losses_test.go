package talk

import (
	"context"
	"testing"
)

func TestACallThatLostWaitsNoMore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	LossesOf(ctx).Lose()
	if LossesOf(ctx).Lost() {
		t.Error("what is no call has lost")
	}
	one, other := context.WithValue(ctx, LossesKey{}, &Losses{}), context.WithValue(ctx, LossesKey{}, &Losses{})
	if LossesOf(one).Lost() {
		t.Error("it has lost before it waited")
	}
	LossesOf(context.WithoutCancel(one)).Lose()
	if !LossesOf(one).Lost() || LossesOf(other).Lost() {
		t.Errorf("the one has lost: %t, the other: %t", LossesOf(one).Lost(), LossesOf(other).Lost())
	}
	LossesOf(one).last.Add(-int64(lossLasts))
	if LossesOf(one).Lost() {
		t.Error("a second later it has still lost")
	}
}
