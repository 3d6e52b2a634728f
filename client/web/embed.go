// Package web holds the web app as it is served: what `make web` builds of
// client/web/app. It is committed, so that a server can be built without Node.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var built embed.FS

// App is the built app, index.html at its top.
func App() fs.FS {
	dist, err := fs.Sub(built, "dist")
	if err != nil {
		panic(err) // the name is a good one
	}
	return dist
}
