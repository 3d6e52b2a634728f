//go:build !linux

package talk

func lowerPriority() {}
