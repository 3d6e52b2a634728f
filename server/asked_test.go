package server

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func askedFor(a *asked, question string) *freev1.ListRoomsRequest {
	msg := &freev1.ListRoomsRequest{}
	if !a.recall([]byte(question), msg) {
		return nil
	}
	return msg
}

func TestAskedTwiceIsRemembered(t *testing.T) {
	t.Parallel()
	a := newAsked()
	spanish := &freev1.ListRoomsRequest{Language: "es"}
	for n, want := range []bool{false, false, true, true} {
		if got := askedFor(a, "es"); (got != nil) != want || want && !proto.Equal(got, spanish) {
			t.Errorf("asked %d times before: %v", n, got)
		}
		a.remember("es", spanish)
	}
	askedFor(a, "es").Language = "changed by a handler"
	spanish.Language = "changed by who received it first"
	if got := askedFor(a, "es"); got.GetLanguage() != "es" {
		t.Errorf("what is remembered was changed: %v", got)
	}
}

// A stranger who asks something else each time takes no memory, and what others
// ask stays.
func TestAskedIsBounded(t *testing.T) {
	t.Parallel()
	a := newAsked()
	for range 2 {
		a.remember("often", &freev1.ListRoomsRequest{})
	}
	for n := range 100_000 {
		question := fmt.Sprint(n)
		a.remember(question, &freev1.ListRoomsRequest{})
		if n%3 == 0 {
			a.remember(question, &freev1.ListRoomsRequest{})
		}
		if n%50 == 0 && askedFor(a, "often") == nil {
			t.Fatal("what is asked again and again was forgotten")
		}
	}
	if n := len(a.young) + len(a.old); n > 2*askedKept {
		t.Errorf("%d questions are remembered", n)
	}
}
