package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The app's page is the only one there is. It shows what lies beside it, talks
// to where it came from, and nothing else: no inline script or style, no frame,
// no other site.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"connect-src 'self'; media-src 'self'; manifest-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// permissionsPolicy leaves the page the microphone, which people will talk
// into, and nothing else that it would have to ask for.
const permissionsPolicy = "microphone=(self), camera=(), display-capture=(), geolocation=(), payment=(), usb=(), " +
	"serial=(), bluetooth=(), midi=(), hid=(), browsing-topics=()"

const (
	// hashedAssets is where files lie whose names change with what is in them.
	hashedAssets  = "assets/"
	indexPage     = "index.html"
	cacheForever  = "public, max-age=31536000, immutable"
	cacheAsking   = "no-cache" // kept, and asked for by its ETag each time
	packedAtLeast = 1 << 10    // bytes; less fits a packet as it is
)

// assetTypes are the kinds of files that an app consists of, and whether
// packing makes them smaller. What this machine believes about endings is not
// asked.
var assetTypes = map[string]struct {
	contentType string
	packs       bool
}{
	".html":        {"text/html; charset=utf-8", true},
	".js":          {"text/javascript; charset=utf-8", true},
	".css":         {"text/css; charset=utf-8", true},
	".svg":         {"image/svg+xml", true},
	".json":        {"application/json", true},
	".webmanifest": {"application/manifest+json", true},
	".txt":         {"text/plain; charset=utf-8", true},
	".ico":         {"image/x-icon", false},
	".png":         {"image/png", false},
	".webp":        {"image/webp", false},
	".woff2":       {"font/woff2", false},
}

// app is the web app: files that do not change while the process lives.
type app struct {
	files map[string]*asset // by path, without the first slash
	index *asset
}

// asset is one file, in memory.
type asset struct {
	body        []byte
	packed      func() []byte // gzip, made when it is first asked for; nil where that is no smaller
	contentType string
	cache       string
	etag        string
}

// newApp reads the app. Nil files mean that there is none.
func newApp(files fs.FS) (*app, error) {
	if files == nil {
		return nil, nil //nolint:nilnil // no app is nothing to report
	}
	a := &app{files: map[string]*asset{}}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		a.files[name], err = newAsset(name, body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	if a.index = a.files[indexPage]; a.index == nil {
		return nil, errors.New("app: there is no " + indexPage)
	}
	return a, nil
}

func newAsset(name string, body []byte) (*asset, error) {
	kind, ok := assetTypes[path.Ext(name)]
	if !ok {
		return nil, fmt.Errorf("%s: files of this kind are not served", name)
	}
	sum := sha256.Sum256(body)
	f := &asset{
		body: body, contentType: kind.contentType, cache: cacheAsking,
		etag:   base64.RawURLEncoding.EncodeToString(sum[:12]),
		packed: func() []byte { return nil },
	}
	if strings.HasPrefix(name, hashedAssets) {
		f.cache = cacheForever
	}
	if kind.packs && len(body) >= packedAtLeast {
		f.packed = sync.OnceValue(func() []byte { return pack(body) })
	}
	return f, nil
}

// pack returns body as gzip, or nil where that is no smaller.
func pack(body []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a good one
	}
	_, err = w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer takes everything
	}
	if b.Len() >= len(body) {
		return nil
	}
	return b.Bytes()
}

// find returns what the app answers a request with; nil where that is not the
// app's business. The app has pages of its own under paths that are no files
// (/rooms/abc): whoever asks for one by its address gets the page that shows
// them all. Who does not want a page, such as curl, asks the API.
func (a *app) find(r *http.Request) *asset {
	if a == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	page := strings.Contains(r.Header.Get("Accept"), "text/html")
	name := strings.TrimPrefix(r.URL.Path, "/")
	if f := a.files[name]; f != nil && f != a.index {
		return f
	}
	if page && (name == indexPage || !strings.Contains(name, ".")) && !reserved[name] {
		return a.index
	}
	return nil
}

// reserved are paths without a dot that are not the app's.
var reserved = map[string]bool{"healthz": true, "readyz": true, "metrics": true}

// ServeHTTP sends the file.
func (f *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", f.cache)
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Permissions-Policy", permissionsPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Add("Vary", "Accept-Encoding")
	body, etag := f.body, f.etag
	if packed := f.packedFor(r); packed != nil {
		body, etag = packed, etag+"-gzip"
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(packed)))
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (f *asset) packedFor(r *http.Request) []byte {
	for item := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(item), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") && !zeroWeight(weight) {
			return f.packed()
		}
	}
	return nil
}

func zeroWeight(weight string) bool {
	q, found := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
	if !found {
		return false
	}
	value, err := strconv.ParseFloat(q, 64)
	return err == nil && value == 0
}
