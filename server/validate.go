package server

import (
	"connectrpc.com/connect/v2"
	"connectrpc.com/validate"
)

// newValidate makes the interceptor for the schema's own rules. It looks at
// each message when it is received, so the chain above has run by then.
// Protovalidate's sentences name the field and the rule and never the value.
func newValidate() connect.ServerInterceptor { return validate.NewServerInterceptor() }
