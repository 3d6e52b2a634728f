package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/free2talk/free2talk/server/talk"
)

const errorDomain = "free2talk"

// retryDefault is what a caller is told to wait where the error knows no better.
const retryDefault = time.Second

// wireCode gives each kind of failure its code.
var wireCode = map[talk.Kind]connect.Code{
	talk.Invalid:         connect.CodeInvalidArgument,
	talk.Unauthenticated: connect.CodeUnauthenticated,
	talk.Denied:          connect.CodePermissionDenied,
	talk.NotFound:        connect.CodeNotFound,
	talk.Exists:          connect.CodeAlreadyExists,
	talk.Unsettled:       connect.CodeFailedPrecondition,
	talk.Aborted:         connect.CodeAborted,
	talk.Exhausted:       connect.CodeResourceExhausted,
	talk.Unavailable:     connect.CodeUnavailable,
}

// Sentences that no other table holds.
const (
	sentenceInternal   = "internal error"
	sentenceCanceled   = "the call was canceled"
	sentenceDeadline   = "the call took too long"
	sentenceMalformed  = "the request is not a message of this method"
	sentenceCutShort   = "the request ended before its message did"
	sentenceNotOne     = "the request must hold exactly one message"
	sentenceTimeout    = "the time-out is not a number of this protocol"
	sentenceEncoding   = "the request is of a compression or protocol version that is not served"
	sentenceNoSuchCall = "there is no such method, or not yet"
)

// translate makes wire errors of all others, once, for the interceptors
// outside it and for the caller. It also replaces what the transport says
// about a payload that it cannot read, as that quotes the payload.
func translate(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		err := next(ctx, spec, &readingStream{ServerStream: stream})
		if err == nil || requestFrom(ctx).goesOn() {
			return err
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", err, ctx.Err()) // not every driver says that the context was why
		}
		wire, retry := wireError(err, requestFrom(ctx))
		if info, ok := connect.CallInfoForServerContext(ctx); ok {
			if retry > 0 {
				info.ResponseHeader().Set("Retry-After", seconds(retry))
			}
			if wire.Code() == connect.CodeUnauthenticated {
				info.ResponseHeader().Set("Www-Authenticate", "Bearer")
			}
		}
		return wire
	}
}

// wireError returns what the caller may see of err and how long they should
// wait; it leaves the reason and an internal error's cause in q, for the log.
func wireError(err error, q *request) (*connect.Error, time.Duration) {
	switch e := written(err).(type) { //nolint:errorlint // written has unwrapped it
	case *connect.Error:
		if speakable(e) {
			q.reason = reasonOf(e)
			return withRetry(e)
		}
	case *talk.Error:
		if wireCode[e.Kind] != 0 {
			q.reason = e.Reason
			return domainError(e), retryOf(e)
		}
	case *talk.InvalidInput:
		return invalidInput(e), 0
	}
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, sentenceCanceled).WithCause(err), 0
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, sentenceDeadline).WithCause(err), 0
	case errors.As(err, &large):
		q.reason = talk.ErrBodyTooLarge.Reason
		return domainError(talk.ErrBodyTooLarge), 0
	}
	q.cause = err
	return internalError(q.id, err), 0
}

// written finds the outermost error that somebody wrote for a caller, or nil.
// What that one hides as its cause is not looked at.
func written(err error) error {
	switch e := err.(type) { //nolint:errorlint // it is the walk itself
	case nil:
		return nil
	case *connect.Error, *talk.Error, *talk.InvalidInput:
		return err
	case interface{ Unwrap() error }:
		return written(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if found := written(inner); found != nil {
				return found
			}
		}
	}
	return nil
}

// speakable reports whether a connect error was written for the caller:
// Internal and Unknown are what libraries say when they do not know either.
func speakable(err *connect.Error) bool {
	switch err.Code() {
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
		return false
	}
	return !err.IsRemote()
}

// domainError gives a failure of the domain its code and its details.
func domainError(e *talk.Error) *connect.Error {
	wire := connect.NewError(wireCode[e.Kind], e.Sentence).WithCause(e)
	wire = detailed(wire, &errdetails.ErrorInfo{
		Domain: errorDomain, Reason: e.Reason, Metadata: maps.Clone(e.Metadata),
	})
	if e.Reason == talk.ErrRateLimited.Reason {
		wire = detailed(wire, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
			Subject: e.Metadata["policy"], Description: e.Sentence,
		}}})
	}
	if retry := retryOf(e); retry > 0 {
		wire = detailed(wire, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	return wire
}

// retryOf returns how long to wait, for every failure that waiting cures.
func retryOf(e *talk.Error) time.Duration {
	switch {
	case e.Retry > 0:
		return e.Retry
	case e.Reason == talk.ErrBodyTooLarge.Reason:
		return 0 // it will be as large in a minute
	case e.Kind == talk.Exhausted, e.Kind == talk.Unavailable:
		return retryDefault
	}
	return 0
}

// withRetry adds RetryInfo to an authored error that should have it.
func withRetry(wire *connect.Error) (*connect.Error, time.Duration) {
	if wire.Code() != connect.CodeUnavailable && wire.Code() != connect.CodeResourceExhausted {
		return wire, 0
	}
	for _, d := range wire.Details() {
		if m, err := connectproto.UnmarshalErrorDetail(d); err == nil {
			switch m := m.(type) {
			case *errdetails.RetryInfo:
				return wire, m.GetRetryDelay().AsDuration()
			case *errdetails.ErrorInfo:
				if m.GetReason() == talk.ErrBodyTooLarge.Reason {
					return wire, 0
				}
			}
		}
	}
	return detailed(wire, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDefault)}), retryDefault
}

func reasonOf(wire *connect.Error) string {
	for _, d := range wire.Details() {
		if m, err := connectproto.UnmarshalErrorDetail(d); err == nil {
			if info, ok := m.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}

// invalidInput says it as validation by the schema does.
func invalidInput(e *talk.InvalidInput) *connect.Error {
	path := &validate.FieldPath{}
	for name := range strings.SplitSeq(e.Field, ".") {
		path.Elements = append(path.Elements, &validate.FieldPathElement{FieldName: &name})
	}
	wire := connect.NewError(connect.CodeInvalidArgument, e.Error()).WithCause(e)
	return detailed(wire, &validate.Violations{Violations: []*validate.Violation{{
		Field: path, Message: &e.Sentence,
	}}})
}

// internalError tells nothing but the request's id, by which the log has the rest.
func internalError(id string, cause error) *connect.Error {
	wire := connect.NewError(connect.CodeInternal, sentenceInternal).WithCause(cause)
	return detailed(wire, &errdetails.RequestInfo{RequestId: id})
}

func detailed(wire *connect.Error, detail proto.Message) *connect.Error {
	d, err := connectproto.NewErrorDetail(detail)
	if err != nil {
		return wire // only a message that is not valid UTF-8 comes here
	}
	return wire.WithDetail(d)
}

// readingStream says in our words why a message could not be read.
type readingStream struct {
	connect.ServerStream
}

// Receive reads the next message.
func (s *readingStream) Receive(msg any) error {
	err := s.ServerStream.Receive(msg)
	if err == nil || errors.Is(err, io.EOF) && !truncated(err) {
		return err
	}
	return unreadable(err)
}

// truncated reports an end in the middle of a message, which some layers wrap
// together with io.EOF.
func truncated(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

func unreadable(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), connect.CodeOf(err) == connect.CodeResourceExhausted:
		return talk.ErrBodyTooLarge.Because(err)
	case errors.Is(err, os.ErrDeadlineExceeded), connect.CodeOf(err) == connect.CodeDeadlineExceeded:
		return connect.NewError(connect.CodeDeadlineExceeded, sentenceDeadline).WithCause(err)
	case connect.CodeOf(err) == connect.CodeCanceled:
		return connect.NewError(connect.CodeCanceled, sentenceCanceled).WithCause(err)
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return connect.NewError(connect.CodeInvalidArgument, sentenceMalformed).WithCause(err)
	case connect.CodeOf(err) == connect.CodeUnimplemented:
		return connect.NewError(connect.CodeInvalidArgument, sentenceNotOne).WithCause(err)
	}
	return connect.NewError(connect.CodeInvalidArgument, sentenceCutShort).WithCause(err)
}

// seconds rounds up: who comes back early is refused again.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(d.Seconds())), 10)
}
