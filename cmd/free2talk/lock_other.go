//go:build !unix

package main

// lockDir does nothing where there are no advisory locks.
func lockDir(string) (release func(), err error) { return func() {}, nil }
