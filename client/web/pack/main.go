// Command pack writes beside each file of a built app what brotli (RFC 7932)
// makes of it, at its best, which is too slow to do while somebody waits:
//
//	go run ./client/web/pack client/web/dist
//
// It is pinned with the other modules, so the same files give the same bytes
// everywhere. Files that are small, or no smaller packed, get none.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/andybalholm/brotli"
)

const (
	ending  = ".br"
	atLeast = 1 << 10 // bytes; less fits a packet as it is
)

var packs = []string{".html", ".js", ".css", ".svg", ".json", ".webmanifest", ".txt"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pack DIRECTORY")
		os.Exit(2)
	}
	if err := filepath.WalkDir(os.Args[1], packed); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// packed packs one file.
func packed(name string, entry fs.DirEntry, err error) error {
	if err != nil || entry.IsDir() || !slices.Contains(packs, filepath.Ext(name)) {
		return err
	}
	body, err := os.ReadFile(name)
	if err != nil || len(body) < atLeast {
		return err
	}
	var b bytes.Buffer
	w := brotli.NewWriterLevel(&b, brotli.BestCompression)
	_, err = w.Write(body)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	if b.Len() >= len(body) {
		return nil
	}
	return os.WriteFile(name+ending, b.Bytes(), 0o644)
}
