// Package server is free2talk on the wire: Connect, gRPC and gRPC-Web over one
// [http.Handler].
//
// A call passes the HTTP layer (request id, headers, cross-origin rules, caps
// on its body), then the chain of interceptors, whose order stands once in
// chain.go, then a handler of three moves: convert, call, convert. Everything
// up to the authorization is decided on headers alone, before the body is read.
//
// What an RPC needs and costs stands in the schema, as the method option
// free2talk.v1.policy; [New] refuses a method without one. Only errors written
// for the caller reach the caller: see [translate.go] for the one table.
package server
