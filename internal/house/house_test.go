package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/free2talk/free2talk/"

// may says what of ours each room may import. What a package imports inside
// its own room is its own business.
var may = map[string][]string{
	"gen":         {},
	"server/talk": {},
	"db":          {"server/talk"},
	"cache":       {"server/talk"},
	"server":      {"gen", "server/talk", "server/live"},
	"server/live": {"server/talk"},
	"client":      {"gen"},
	"internal":    {},
	"deploy":      {},
	"bench":       {"gen", "server/talk", "server", "db", "cache", "internal"},
	"cmd":         {"gen", "server/talk", "server/live", "server", "db", "cache", "client", "internal"},
	"proto":       {"gen"},
}

// roomOf is the room that a package of ours is in, or "".
func roomOf(path string) string {
	path = strings.TrimPrefix(path, module)
	for _, room := range []string{"server/talk", "server/live", "server", "db", "cache", "gen", "client", "internal", "deploy", "bench", "cmd", "proto"} {
		if path == room || strings.HasPrefix(path, room+"/") {
			return room
		}
	}
	return ""
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = top(t)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := roomOf(words[0])
		allowed, known := may[from]
		if !known {
			t.Errorf("%s is in no room of the house", words[0])
		}
		for _, imported := range words[1:] {
			to := roomOf(imported)
			if strings.HasPrefix(imported, module) && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import %v", words[0], imported, from, allowed)
			}
		}
	}
}

// top is the directory of the repository.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A handler has three moves: convert, call, convert.
func TestHandlersAreShort(t *testing.T) {
	t.Parallel()
	const most = 20
	for _, noun := range []string{"auth", "room", "user", "presence"} {
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(top(t), "server", noun+".go"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			if lines := files.Position(f.End()).Line - files.Position(f.Pos()).Line + 1; lines > most {
				t.Errorf("%s has %d lines, over %d", f.Name.Name, lines, most)
			}
		}
	}
}

// There is at least as much of tests as of what they test.
func TestTestsAreAtLeastAsLongAsCode(t *testing.T) {
	t.Parallel()
	tests, code := 0, 0
	err := filepath.WalkDir(top(t), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && slices.Contains([]string{"gen", "node_modules", ".git", ".bin", "bin", "bench"}, name) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".lua") && !strings.HasSuffix(name, ".sql") {
			return nil
		}
		text, err := os.ReadFile(path)
		if strings.HasSuffix(name, "_test.go") || strings.Contains(path, "/talktest/") || strings.Contains(path, "/testenv/") {
			tests += strings.Count(string(text), "\n")
		} else {
			code += strings.Count(string(text), "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines of tests, %d of code", tests, code)
	if tests < code {
		t.Errorf("%d lines of tests, %d of code", tests, code)
	}
}
