package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// configOf is what a command line and an environment make.
func configOf(t *testing.T, env map[string]string, args ...string) Config {
	t.Helper()
	for _, name := range []string{
		"DATABASE_URL", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "FREE2TALK_SECRET", "FREE2TALK_SECRET_FILE", "FREE2TALK_LISTEN",
	} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	cli := CLI{Config: Config{Secret: os.Getenv("FREE2TALK_SECRET")}}
	parser, err := kong.New(&cli, kong.BindTo(t.Context(), (*any)(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cli.Config
}

const (
	aSecret = "GmR0c2tYbEwqkl3vD8sOa1uQ5nZxT7pJ"
	planted = "hunter2-canary"
)

// TestChecklist64_bad_settings: each is refused, by its name, and what may be
// secret of its value is not said.
func TestChecklist64_bad_settings(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	const stores = "--database-url=postgres://h/f --redis-url=redis://h "
	for name, c := range map[string]struct{ args, secret, names, says string }{
		"a short secret":                       {"", planted, "FREE2TALK_SECRET", "at least 32 bytes"},
		"a short secret in a file":             {"--secret-file=" + short, "", "--secret-file", "at least 32 bytes"},
		"a default secret":                     {"", planted + "-changeme-changeme-changeme", "FREE2TALK_SECRET", "openssl rand"},
		"a secret of one letter":               {"", strings.Repeat("a", 40), "FREE2TALK_SECRET", "openssl rand"},
		"no such secret file":                  {"--secret-file=/no/such/file", "", "--secret-file", "cannot be read"},
		"no TLS to a public host":              {"--redis-url=redis://h --database-url=postgres://u:" + planted + "@db.example.org/f?sslmode=disable", "", "--database-url", "sslmode=disable"},
		"no TLS to a public address":           {"--redis-url=redis://h --database-url=postgres://u:" + planted + "@203.0.113.9/f?sslmode=disable", "", "--database-url", "sslmode=disable"},
		"another database":                     {"--redis-url=redis://h --database-url=mysql://u:" + planted + "@h/f", "", "--database-url", "postgres://"},
		"a DSN that is no URL":                 {"--redis-url=redis://h --database-url=postgres://u:" + planted + "@h:x/f", "", "--database-url", "postgres://"},
		"another store":                        {"--database-url=postgres://h/f --redis-url=memcached://u:" + planted + "@h", "", "--redis-url", "redis://"},
		"a database alone":                     {"--database-url=postgres://h/f", "", "--redis-url", "is needed"},
		"a Redis alone":                        {"--redis-url=redis://:" + planted + "@h", "", "--database-url", "is needed"},
		"any origin":                           {"--allowed-origins=*", "", "--allowed-origins", "* is not taken"},
		"a path for an origin":                 {"--allowed-origins=https://app.example/", "", "--allowed-origins", "not an origin"},
		"metrics for clients":                  {"--listen=:9000 --metrics-listen=:9000", "", "--metrics-listen", "where clients connect"},
		"metrics for clients, by another name": {"--listen=127.0.0.1:9000 --metrics-listen=0.0.0.0:9000", "", "--metrics-listen", "where clients connect"},
		"no port":                              {"--listen=localhost", "", "--listen", "HOST:PORT"},
		"a port beyond ports":                  {"--listen=:65536", "", "--listen", "HOST:PORT"},
		"no metrics port":                      {"--metrics-listen=x", "", "--metrics-listen", "HOST:PORT"},
		"a proxy that is none":                 {"--trusted-proxies=10.0.0.0/33", "", "--trusted-proxies", "CIDR"},
		"an unknown policy":                    {"--rate-limits=apis=1/1s", "", "--rate-limits", "no such policy"},
		"a grace without a unit":               {"--presence-grace=15", "", "--presence-grace", "such as 15s"},
		"a grace too long":                     {"--presence-grace=2h", "", "--presence-grace", "such as 15s"},
		"a negative wait":                      {"--unattended=-1s", "", "--unattended", "such as 15s"},
		"a room for one":                       {"--max-capacity=1", "", "--max-capacity", "between 2 and 1000"},
		"a room for all":                       {"--max-capacity=1001", "", "--max-capacity", "between 2 and 1000"},
		"a log in XML":                         {"--log-format=xml", "", "--log-format", "text or json"},
		"a loud log":                           {"--log-level=loud", "", "--log-level", "debug, info, warn or error"},
		"two things at once":                   {stores + "--log-level=loud --max-capacity=x", "", "--max-capacity", "between"},
	} {
		t.Run(name, func(t *testing.T) {
			config := configOf(t, map[string]string{"FREE2TALK_SECRET": c.secret}, strings.Fields(c.args)...)
			_, err := config.online()
			if err == nil {
				t.Fatal("it was taken")
			}
			if exitCode(err) != 2 || !strings.Contains(err.Error(), "\n"+c.names+": ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("exit %d: %v", exitCode(err), err)
			}
			if strings.Contains(err.Error(), planted) {
				t.Errorf("it prints a secret: %v", err)
			}
		})
	}
}

func TestGoodSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret-file")
	if err := os.WriteFile(file, []byte(aSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stores := map[string]string{"DATABASE_URL": "postgres://u:p@db/f?sslmode=disable", "REDIS_HOST": "cache", "REDIS_PASSWORD": "p@ss:word/"}
	for name, c := range map[string]struct {
		env   map[string]string
		args  string
		right func(Settings) bool
	}{
		"nothing said": {nil, "--data-dir=" + dir, func(s Settings) bool {
			return s.Embedded && s.Listen == "127.0.0.1:8080" && s.DatabaseURL == filepath.Join(dir, "free2talk.db") && len(s.Secret) >= 32 &&
				s.RedisURL == "" && s.PresenceGrace == 15*time.Second && s.Unattended == 5*time.Minute && s.MaxCapacity == 12 && s.DrainDelay == 0
		}},
		"Redis in parts": {stores, "", func(s Settings) bool {
			return !s.Embedded && s.RedisURL == "redis://:p%40ss%3Aword%2F@cache:6379" && s.Secret == nil && s.DrainDelay > 0
		}},
		"another port": {map[string]string{"DATABASE_URL": "postgres://db/f", "REDIS_HOST": "::1", "REDIS_PORT": "7000"}, "", func(s Settings) bool {
			return s.RedisURL == "redis://[::1]:7000"
		}},
		"a flag before a variable": {map[string]string{"FREE2TALK_LISTEN": ":1", "DATABASE_URL": "postgres://db/f", "REDIS_HOST": "cache"}, "--listen=:2 --redis-url=rediss://other", func(s Settings) bool {
			return s.Listen == ":2" && s.RedisURL == "rediss://other"
		}},
		"a secret in a variable": {map[string]string{"FREE2TALK_SECRET": aSecret}, "--data-dir=" + dir, func(s Settings) bool { return string(s.Secret) == aSecret }},
		"a secret in a file":     {nil, "--secret-file=" + file + " --data-dir=" + dir, func(s Settings) bool { return string(s.Secret) == aSecret }},
		"never expiring seats":   {nil, "--unattended=0 --data-dir=" + dir, func(s Settings) bool { return s.Unattended == 0 }},
		"lists": {nil, "--trusted-proxies=10.0.0.0/8,::1 --allowed-origins=https://a.example,http://localhost:5173 --rate-limits=api=600/1m,auth=off --data-dir=" + dir, func(s Settings) bool {
			_, auth := s.RateLimits["auth"]
			return len(s.TrustedProxies) == 2 && s.TrustedProxies[1].String() == "::1/128" && len(s.AllowedOrigins) == 2 && s.RateLimits["api"].Places == 600 && !auth
		}},
		"TLS to a public host": {nil, "--database-url=postgres://db.example.org/f?sslmode=verify-full --redis-url=redis+cluster://a:1,b:2", func(s Settings) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			config := configOf(t, c.env, strings.Fields(c.args)...)
			if s, err := config.online(); err != nil || !c.right(s) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// TestChecklist64_the_process_refuses: all faults at once, one a line, with
// exit code 2 and no value.
func TestChecklist64_the_process_refuses(t *testing.T) {
	code, out, log := command(t, []string{"FREE2TALK_SECRET=" + planted, "REDIS_PASSWORD=" + planted, "DATABASE_URL=mysql://u:" + planted + "@h/f"},
		"--allowed-origins=*", "--log-format=xml", "--max-capacity=no", "--listen=nowhere")
	for _, name := range []string{"FREE2TALK_SECRET", "--database-url", "--redis-url", "--allowed-origins", "--log-format", "--max-capacity", "--listen"} {
		if !strings.Contains(log, "\n"+name+": ") {
			t.Errorf("%s is not said", name)
		}
	}
	if code != 2 || out != "" || strings.Contains(log, planted) || strings.Count(log, "\n") != 8 {
		t.Errorf("exit %d: %s%s", code, out, log)
	}
	for _, args := range [][]string{{"--nope"}, {"nope"}, {"user", "promote"}, {"migrate", "sideways"}, {"--secret=" + planted}} {
		if code, _, log := command(t, nil, args...); code != 2 || !strings.Contains(log, "free2talk --help") || strings.Contains(log, "goroutine") {
			t.Errorf("%v: exit %d: %s", args, code, log)
		}
	}
}

func TestHelp(t *testing.T) {
	code, out, log := command(t, nil, "--help")
	if code != 0 || log != "" {
		t.Errorf("exit %d: %s", code, log)
	}
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"Where clients connect (127.0.0.1:8080) ($FREE2TALK_LISTEN)", "--metrics-listen=ADDR", "--data-dir=DIR", "($DATABASE_URL)", "REDIS_HOST, REDIS_PORT and REDIS_PASSWORD",
		"--secret-file=FILE", "--rate-limits=LIST", "--trusted-proxies=CIDRS", "--allowed-origins=LIST", "(15s) ($FREE2TALK_PRESENCE_GRACE)", "(5m) ($FREE2TALK_UNATTENDED)",
		"(12) ($FREE2TALK_MAX_CAPACITY)", "text or json (text)", "migrate up", "user promote", "keys rotate", "version", "in ./free2talk-data",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if lines := strings.Count(out, "\n"); lines > 75 {
		t.Errorf("%d lines are more than a page that one can read", lines)
	}
	if code, out, _ := command(t, nil, "version"); code != 0 || !strings.HasPrefix(out, "free2talk ") || strings.Count(out, "\n") != 1 {
		t.Errorf("version: exit %d: %s", code, out)
	}
}
