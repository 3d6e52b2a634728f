package cache

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	k := keys{prefix: "f2t:", history: tagOf("")}
	for want, got := range map[string]string{
		"f2t:room:{r1}":                       k.entry(talk.RoomKey("r1")),
		"f2t:slug:{tea-room}":                 k.entry(talk.SlugKey("tea-room")),
		"f2t:user:{u1}":                       k.entry(talk.UserKey("u1")),
		"f2t:username:{ada}":                  k.entry(talk.UsernameKey("Ada")),
		"f2t:session:{s1}":                    k.session("s1"),
		"f2t:rl:auth:5/900:{192.0.2.1}":       k.limit(failuresOf(5, 15*time.Minute), "192.0.2.1"),
		"f2t:rl:api:600/0.25:{2001:db8::/64}": k.limit(limitOf(600, 250*time.Millisecond), "2001:db8::/64"),
		"f2t:invalidate":                      k.invalidations(),
		"room:r1 slug:tea:room":               string(k.key("f2t:room:{r1}")) + " " + string(k.key("f2t:slug:{tea:room}")),
	} {
		equal(t, "key", got, want)
	}
}

// The table of the documentation is the one in the code.
func TestKeyTable(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	check(t, err)
	table := KeyTable()
	for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		format := strings.Split(row, "`")[1]
		if !strings.Contains(string(doc), format) {
			t.Errorf("doc.go does not tell of %s", format)
		}
	}
	equal(t, "rows", strings.Count(table, "\n"), 24)
}

// Every script begins with its signature, and on a Cluster touches one slot.
func TestScriptsSayWhatTheyDo(t *testing.T) {
	t.Parallel()
	files, err := luaFiles.ReadDir("lua")
	check(t, err)
	header := regexp.MustCompile(`(?s)^-- (\w+): .+?\n--\n--   KEYS\[1\] .+?\n--   ARGV\[1\] .+?\n-- Returns `)
	for _, file := range files {
		if file.IsDir() { // what scripts share
			continue
		}
		source, err := luaFiles.ReadFile("lua/" + file.Name())
		check(t, err)
		match := header.FindStringSubmatch(string(source))
		if match == nil || match[1]+".lua" != file.Name() {
			t.Errorf("%s does not begin with its signature", file.Name())
		}
		if strings.Contains(string(source), "KEYS[2]") {
			t.Errorf("%s touches two keys", file.Name())
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for range 1000 {
		if d := jitter(time.Minute); d < 54*time.Second || d > 66*time.Second {
			t.Fatalf("jitter: %s", d)
		}
		if d := absence(); d < 15*time.Second || d > 30*time.Second {
			t.Fatalf("absence: %s", d)
		}
		if d := ttl(time.Minute); d < 60_000 || d > 70_000 {
			t.Fatalf("ttl: %d", d)
		}
	}
}
