package talk

import "syscall"

// nicer is by how much a hash's thread gives way to the others: at full load it
// gets about a quarter of what they get.
const nicer = 6

// lowerPriority lowers that of the calling thread, which on Linux has one of
// its own. Where it may not, the hash runs as everything else does.
func lowerPriority() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), nicer) }
