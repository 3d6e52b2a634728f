package web_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/client/web"
)

// The server allows neither inline scripts nor inline styles, so the page must
// have none; and what it names must be there.
func TestThePageHasNothingInline(t *testing.T) {
	t.Parallel()
	index, err := fs.ReadFile(web.App(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	page := string(index)
	for _, refused := range []string{`<style`, ` style="`, ` onload=`, ` onclick=`, `javascript:`} {
		if strings.Contains(page, refused) {
			t.Errorf("the page has %s", refused)
		}
	}
	for _, script := range regexp.MustCompile(`<script[^>]*>([^<]*)</script>`).FindAllStringSubmatch(page, -1) {
		if strings.TrimSpace(script[1]) != "" {
			t.Errorf("an inline script: %s", script[0])
		}
	}
	for _, link := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if _, err := fs.Stat(web.App(), strings.TrimPrefix(link[1], "/")); err != nil {
			t.Errorf("%s: %v", link[1], err)
		}
	}
}

// What is served for ever must not keep its name when it changes, and what is
// not of use to a browser is not shipped.
func TestFilesAreNamedForWhatIsInThem(t *testing.T) {
	t.Parallel()
	hashed := regexp.MustCompile(`^assets/.+-[A-Za-z0-9_-]{8}\.[a-z0-9]+(\.br)?$`)
	err := fs.WalkDir(web.App(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if strings.HasPrefix(name, "assets/") && !hashed.MatchString(name) {
			t.Errorf("%s has no hash", name)
		}
		if strings.HasSuffix(name, ".map") {
			t.Errorf("%s is for developers", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
