// Package prometheus_test checks the alert rules that are shipped.
package prometheus_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// promtool runs Prometheus's own checker on the files beside this one.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not installed: `make deps` installs it where apt-get is")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesAreValid(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint-fatal", "alerts.yml")
}

// What fires and what does not stands in alerts_test.yml.
func TestRulesFire(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "alerts_test.yml")
}

var alert = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

// Each alert says where it is explained, and is explained there.
func TestAlertsAreExplained(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := alert.FindAllStringSubmatch(string(rules), -1)
	if len(found) == 0 {
		t.Fatal("no alerts")
	}
	for _, match := range found {
		name := match[1]
		if !strings.Contains(string(rules), "runbook: docs/operations.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s does not say where it is explained", name)
		}
		if !strings.Contains(string(manual), "\n### "+name+"\n") {
			t.Errorf("docs/operations.md does not explain %s", name)
		}
	}
}
