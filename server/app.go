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

// firstRooms has a browser ask for the first page of rooms together with the
// app's script, which shows it (RFC 8288, and `first` in client/web/app/src/backend.ts).
// A reply that nobody takes costs no more than that.
const firstRooms = "</free2talk.v1.RoomService/ListRooms?connect=v1&encoding=proto&base64=1&message=>; " +
	"rel=preload; as=fetch; crossorigin=anonymous"

const (
	// hashedAssets is where files lie whose names change with what is in them.
	hashedAssets  = "assets/"
	indexPage     = "index.html"
	cacheForever  = "public, max-age=31536000, immutable"
	cacheAsking   = "no-cache" // kept, and asked for by its ETag each time
	packedAtLeast = 1 << 10    // bytes; less fits a packet as it is
	brotliEnding  = ".br"      // of a file beside another that holds the same, packed (RFC 7932)
)

// assetTypes are the kinds of files that an app consists of, whether packing
// makes them smaller, and whether a browser that is sent there would run what
// is in them: such have policies. What this machine believes about endings is not
// asked.
var assetTypes = map[string]struct {
	contentType     string
	packs, document bool
}{
	".html":        {"text/html; charset=utf-8", true, true},
	".js":          {"text/javascript; charset=utf-8", true, false},
	".css":         {"text/css; charset=utf-8", true, false},
	".svg":         {"image/svg+xml", true, true},
	".json":        {"application/json", true, false},
	".webmanifest": {"application/manifest+json", true, false},
	".txt":         {"text/plain; charset=utf-8", true, false},
	".ico":         {"image/x-icon", false, false},
	".png":         {"image/png", false, false},
	".webp":        {"image/webp", false, false},
	".woff2":       {"font/woff2", false, false},
}

// app is the web app: files that do not change while the process lives.
type app struct {
	files map[string]*asset // by path, without the first slash
	index *asset
}

// asset is one file, in memory.
type asset struct {
	body        []byte
	gzip        func() []byte // made when it is first asked for; nil where that is no smaller
	brotli      []byte        // made when the app was built, since its best takes long; nil where there is none
	contentType string
	document    bool // a browser runs what is in it, and so has to know the policies
	cache       string
	etag        string
}

// newApp reads the app. Nil files mean that there is none. A file that is named
// as another and ends in .br is how the other is sent to who takes brotli.
func newApp(files fs.FS) (*app, error) {
	if files == nil {
		return nil, nil //nolint:nilnil // no app is nothing to report
	}
	a, brotli := &app{files: map[string]*asset{}}, map[string][]byte{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if of, packed := strings.CutSuffix(name, brotliEnding); packed {
			brotli[of] = body
			return nil
		}
		a.files[name], err = newAsset(name, body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	for of, body := range brotli {
		if a.files[of] == nil {
			return nil, fmt.Errorf("app: %s%s is of no file", of, brotliEnding)
		}
		a.files[of].brotli = body
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
		body: body, contentType: kind.contentType, document: kind.document, cache: cacheAsking,
		etag: base64.RawURLEncoding.EncodeToString(sum[:12]),
		gzip: func() []byte { return nil },
	}
	if strings.HasPrefix(name, hashedAssets) {
		f.cache = cacheForever
	}
	if kind.packs && len(body) >= packedAtLeast {
		f.gzip = sync.OnceValue(func() []byte { return pack(body) })
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
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if f.document {
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Permissions-Policy", permissionsPolicy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	h.Add("Vary", "Accept-Encoding")
	body, etag := f.body, f.etag
	if packed, coding := f.packedFor(r); packed != nil {
		body, etag = packed, etag+"-"+coding
		h.Set("Content-Encoding", coding)
		h.Set("Content-Length", strconv.Itoa(len(packed)))
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// packedFor is the smallest form that a browser takes, and what it is called;
// nil where that is the file as it is.
func (f *asset) packedFor(r *http.Request) (body []byte, coding string) {
	accepted := r.Header.Get("Accept-Encoding")
	if f.brotli != nil && accepts(accepted, "br") {
		return f.brotli, "br"
	}
	if accepts(accepted, "gzip") {
		return f.gzip(), "gzip"
	}
	return nil, ""
}

// accepts reports whether a list of codings names one, and not to refuse it.
func accepts(list, coding string) bool {
	for item := range strings.SplitSeq(list, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(item), ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			return !zeroWeight(weight)
		}
	}
	return false
}

func zeroWeight(weight string) bool {
	q, found := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
	if !found {
		return false
	}
	value, err := strconv.ParseFloat(q, 64)
	return err == nil && value == 0
}
