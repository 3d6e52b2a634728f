// Package house keeps the house in order: its tests hold the structure of the
// repository against what the design says of it.
package house
