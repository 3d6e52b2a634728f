package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/free2talk/free2talk/client"
)

// profile is one log-in on this machine, as its file holds it.
type profile struct {
	Server   string        `json:"server"`
	Username string        `json:"username"`
	Tokens   client.Tokens `json:"tokens"`
}

// profileFile is where a profile is kept: a file that only its owner can read,
// replaced as a whole, so that programs which run at the same time never see
// half of one. It is a [client.TokenLocker]: of several programs whose token
// has run out, one refreshes it and the others take what it saved.
type profileFile struct {
	path  string
	about profile // whose file it is, for Save
}

var _ client.TokenLocker = (*profileFile)(nil)

const (
	profileEnd = ".json"
	lockEvery  = 20 * time.Millisecond
)

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// dir is where the profiles are.
func (f *Flags) dir() (string, error) {
	if f.ConfigDir != "" {
		return f.ConfigDir, nil
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", failf(exitUsage, "there is no place for profiles (%v): name one with --config-dir", err)
	}
	return filepath.Join(base, "f2t"), nil
}

// file is where the profile of the flags is kept, be it there or not.
func (f *Flags) file() (*profileFile, error) {
	if !profileName.MatchString(f.Profile) {
		return nil, failf(exitUsage, "%q is no name for a profile: letters, digits, dots, dashes", f.Profile)
	}
	dir, err := f.dir()
	if err != nil {
		return nil, err
	}
	return &profileFile{path: filepath.Join(dir, f.Profile+profileEnd)}, nil
}

// read returns the profile, or one that is empty where there is none.
func (p *profileFile) read() (profile, error) {
	text, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return profile{}, nil
	}
	if err != nil {
		return profile{}, err
	}
	var read profile
	if err := json.Unmarshal(text, &read); err != nil {
		return profile{}, failf(exitFailed, "%s is damaged: remove it, and log in again", p.path)
	}
	return read, nil
}

// write replaces the file.
func (p *profileFile) write(what profile) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(p.path), filepath.Base(p.path)+".*") // 0600 from the beginning
	if err != nil {
		return err
	}
	_, err = part.Write(append(text, '\n'))
	err = errors.Join(err, part.Sync(), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), p.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return nil
}

// remove forgets the profile.
func (p *profileFile) remove() error {
	err := os.Remove(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if gone := os.Remove(p.lockPath()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

func (p *profileFile) lockPath() string { return strings.TrimSuffix(p.path, profileEnd) + ".lock" }

// Load returns the tokens of the profile.
func (p *profileFile) Load(context.Context) (client.Tokens, error) {
	read, err := p.read()
	return read.Tokens, err
}

// Save keeps tokens; who they belong to stays.
func (p *profileFile) Save(_ context.Context, tokens client.Tokens) error {
	p.about.Tokens = tokens
	return p.write(p.about)
}

// Lock waits until no other program refreshes the profile's tokens.
func (p *profileFile) Lock(ctx context.Context) (unlock func(), err error) {
	lock := flock.New(p.lockPath(), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, lockEvery); err != nil {
		return nil, fmt.Errorf("%s: %w", lock.Path(), err)
	}
	return func() { _ = lock.Unlock() }, nil // it ends with the process, at the latest
}

// profiles are the names of all profiles, in order.
func (f *Flags) profiles() ([]string, error) {
	dir, err := f.dir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), profileEnd); ok && profileName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, err
}
