package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect/v2"
)

// panicError is a panic on its way to the log. It does not unwrap: whatever was
// thrown, it is an internal error.
type panicError struct {
	value any
	stack []byte
}

// Error is the panic's value; the stack is logged beside it.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// recover turns a panic into an internal error. The process and all other
// calls go on.
func (s *Server) recover(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) (err error) {
		defer s.caught(ctx, &err)
		return next(ctx, spec, stream)
	}
}

// caught makes an internal error of a panic. It is deferred.
func (s *Server) caught(ctx context.Context, err *error) {
	value := recover()
	if value == nil {
		return
	}
	if abort, ok := value.(error); ok && errors.Is(abort, http.ErrAbortHandler) {
		panic(value) // net/http's own way to drop a connection
	}
	caught := &panicError{value: value, stack: debug.Stack()}
	requestFrom(ctx).cause = caught
	s.config.Telemetry.panicked(ctx)
	*err = internalError(requestFrom(ctx).id, caught)
}
