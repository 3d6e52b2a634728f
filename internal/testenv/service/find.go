package service

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// elsewhere is where Debian, Fedora and Homebrew keep the programs of
// Postgres, which they leave out of PATH.
var elsewhere = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
}

// find returns the path of a program: of PATH, else the newest of the places
// where the packages put it.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, pattern := range elsewhere {
		found, err := filepath.Glob(filepath.Join(pattern, program))
		if err == nil && len(found) > 0 {
			return slices.MaxFunc(found, byVersion), nil
		}
	}
	return "", fmt.Errorf("%s is not installed: `make deps` installs it where apt-get is", program)
}

// byVersion orders paths by the number in them: 9 before 15.
func byVersion(a, b string) int { return version(a) - version(b) }

func version(path string) int {
	digits := func(r rune) bool { return r < '0' || r > '9' }

	for _, number := range strings.FieldsFunc(path, digits) {
		v, err := strconv.Atoi(number)
		if err == nil {
			return v
		}
	}
	return 0
}

// freePort returns a loopback port that was free a moment ago. It lies below
// the ports that systems hand out to outgoing connections: a server that is
// killed and started again finds its port as it left it.
func freePort() (int, error) {
	const lowest, tries = 15_000, 200

	for range tries {
		port := lowest + rand.IntN(32_767-lowest)

		listener, err := net.Listen("tcp", address(port))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free loopback port found")
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
