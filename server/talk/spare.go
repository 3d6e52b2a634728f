package talk

import (
	"runtime"
	"sync"
	"time"
)

// processors is how many the process has to compute with.
var processors = runtime.GOMAXPROCS(0)

// spareLasts is how long the spare processors stay after the last hash: taking
// and giving them stops the world for some microseconds.
const spareLasts = 3 * time.Second

// spare gives the scheduler as many processors more as hashes may run. A hash
// takes tens of milliseconds and never yields, so on a processor of its own
// kind it would hold up every call that waits for one. With the spare ones it
// is the kernel that divides the time, and it gives the hashes, whose threads
// have a lower priority, what the calls leave.
var spare spareProcessors

type spareProcessors struct {
	mu     sync.Mutex
	users  int
	raised bool
	timer  *time.Timer
}

func (s *spareProcessors) take(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users++; s.timer != nil {
		s.timer.Stop()
	}
	if !s.raised {
		s.raised = true
		runtime.GOMAXPROCS(processors + n)
	}
}

func (s *spareProcessors) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.timer = time.AfterFunc(spareLasts, s.lower)
	}
}

func (s *spareProcessors) lower() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 && s.raised {
		s.raised = false
		runtime.GOMAXPROCS(processors)
	}
}

// apart runs f on a thread of its own, of a lower priority, which ends with it.
func apart(f func() []byte) []byte {
	spare.take(processors)
	defer spare.give()
	done := make(chan []byte, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: nothing else may run at this priority
		lowerPriority()
		done <- f()
	}()
	return <-done
}
