package cache

import (
	"crypto/sha1" //nolint:gosec // the digest by which Redis names scripts
	"embed"
	"encoding/hex"
)

//go:embed lua/*.lua lua/shared/*.lua
var luaFiles embed.FS

// script is one verb in Lua.
type script struct {
	name, source, digest string

	// answers is how many integers it returns for each of its keys, where it
	// takes several at once; else 0.
	answers int
}

// loadScript reads a script and what it shares with others, which comes first.
func loadScript(name string, shares ...string) *script {
	var source []byte
	for _, file := range append(shares, name) {
		part, err := luaFiles.ReadFile("lua/" + file + ".lua")
		if err != nil {
			panic(err) // embedded at build time
		}
		source = append(source, part...)
	}
	digest := sha1.Sum(source) //nolint:gosec // see above
	return &script{name: name, source: string(source), digest: hex.EncodeToString(digest[:])}
}

// each makes it a script of several keys.
func (s *script) each(answers int) *script {
	s.answers = answers
	return s
}

var (
	scriptFill    = loadScript("entry_fill")
	scriptForget  = loadScript("entry_forget")
	scriptRelease = loadScript("entry_release")
	scriptTake    = loadScript("window_take").each(3)
	scriptBegin   = loadScript("attempt_begin")
	scriptFail    = loadScript("attempt_fail")
	scriptPeek    = loadScript("limit_peek")
	scriptReset   = loadScript("limit_reset")
	scriptResets  = loadScript("limit_resets")
	scriptTouch   = loadScript("session_touch")
	scriptTally   = loadScript("analytics_add")
	scriptHour    = loadScript("analytics_hour")
	scriptDrop    = loadScript("analytics_drop")

	scriptOpen   = loadScript("presence_open", "shared/presence")
	scriptClose  = loadScript("presence_close", "shared/presence")
	scriptExpire = loadScript("presence_expire")
	scriptSweep  = loadScript("presence_sweep", "shared/presence")
	scriptReport = loadScript("presence_report", "shared/presence")
	scriptRead   = loadScript("presence_read")
)
