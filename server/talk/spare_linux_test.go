package talk

import (
	"runtime"
	"syscall"
	"testing"
)

// A hash runs on a thread that gives way, and no other work ever does.
func TestHashesGiveWay(t *testing.T) { //nolint:paralleltest // it looks at the whole process
	priority := func() int {
		got, err := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		return 20 - got // the system call returns it upside down
	}
	spare.lower() // what another test's hashes may have left
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	usual := priority()
	var within, processorsWithin int
	apart(func() []byte {
		within, processorsWithin = priority(), runtime.GOMAXPROCS(0)
		return nil
	})
	if within != min(usual+nicer, 19) && within != nicer {
		t.Errorf("a hash runs at priority %d, everything else at %d", within, usual)
	}
	if processorsWithin != 2*processors {
		t.Errorf("%d processors beside a hash, of %d", processorsWithin, processors)
	}
	if got := priority(); got != usual {
		t.Errorf("afterwards it is %d", got)
	}
	spare.lower()
	if got := runtime.GOMAXPROCS(0); got != processors {
		t.Errorf("%d processors are left, of %d", got, processors)
	}
}

// The spare processors stay while anybody hashes.
func TestSpareProcessors(t *testing.T) { //nolint:paralleltest // likewise
	var s spareProcessors
	s.take(1)
	s.take(1)
	s.give()
	s.lower()
	if got := runtime.GOMAXPROCS(0); got != processors+1 {
		t.Errorf("one still hashes, with %d processors of %d and one", got, processors)
	}
	s.give()
	s.lower()
	if got := runtime.GOMAXPROCS(0); got != processors {
		t.Errorf("nobody hashes, with %d processors of %d", got, processors)
	}
}
