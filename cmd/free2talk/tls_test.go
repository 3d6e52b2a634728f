package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selfSignedConfig is one with a data directory of its own.
func selfSignedConfig(t *testing.T) *Config {
	t.Helper()
	return &Config{Listen: "127.0.0.1:0", DataDir: t.TempDir(), TLSSelfSigned: true}
}

func leaf(t *testing.T, config *tls.Config) *x509.Certificate {
	t.Helper()
	cert, err := config.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

func TestSelfSignedIsKept(t *testing.T) {
	t.Parallel()
	c := selfSignedConfig(t)
	first, err := c.tls()
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.tls()
	if err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, first)
	if !cert.Equal(leaf(t, again)) {
		t.Error("another one at the second start, of which browsers would warn again")
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(filepath.Join(c.DataDir, "tls-key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is for us alone: %v, %v", info.Mode(), err)
	}
	if config, err := (&Config{}).tls(); config != nil || err != nil {
		t.Errorf("without flags: %v, %v", config, err)
	}
}

func TestSelfSignedNamesItsHost(t *testing.T) {
	t.Parallel()
	for listen, host := range map[string]string{"dev.example:8443": "dev.example", "192.0.2.7:8443": "192.0.2.7", ":8443": "localhost", "0.0.0.0:1": "127.0.0.1"} {
		c := selfSignedConfig(t)
		c.Listen = listen
		config, err := c.tls()
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf(t, config).VerifyHostname(host); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

func TestRenewedCertificateIsTaken(t *testing.T) {
	t.Parallel()
	made, other := selfSignedConfig(t), selfSignedConfig(t)
	for _, c := range []*Config{made, other} {
		if _, err := c.tls(); err != nil {
			t.Fatal(err)
		}
	}
	file := func(c *Config, name string) string { return filepath.Join(c.DataDir, name) }
	cert := &certificate{certFile: file(made, "tls-cert.pem"), keyFile: file(made, "tls-key.pem")}
	if err := cert.load(); err != nil {
		t.Fatal(err)
	}
	before, err := cert.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	replace := func(name string, content []byte) {
		if err := os.WriteFile(file(made, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file(made, name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		content, err := os.ReadFile(file(other, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}

	replace("tls-cert.pem", []byte("half of it"))
	cert.looked = time.Time{}
	if got, err := cert.get(nil); err != nil || got != before {
		t.Errorf("what cannot be read took the place of what could: %v", err)
	}
	replace("tls-key.pem", read("tls-key.pem"))
	replace("tls-cert.pem", read("tls-cert.pem"))
	if got, _ := cert.get(nil); got != before {
		t.Error("it is looked at more than once a minute")
	}
	cert.looked = time.Time{}
	if got, err := cert.get(nil); err != nil || got.Leaf.Equal(before.Leaf) {
		t.Errorf("the new one is not taken: %v", err)
	}
}

func TestTLSFlags(t *testing.T) {
	t.Parallel()
	c := selfSignedConfig(t)
	if _, err := c.tls(); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(c.DataDir, "tls-cert.pem"), filepath.Join(c.DataDir, "tls-key.pem")
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{TLSCert: cert, TLSKey: key}, ""},
		{Config{TLSSelfSigned: true}, ""},
		{Config{TLSCert: cert}, "--tls-key"},
		{Config{TLSKey: key}, "--tls-cert"},
		{Config{TLSCert: key, TLSKey: cert}, "--tls-cert"},
		{Config{TLSCert: cert, TLSKey: key, TLSSelfSigned: true}, "--tls-self-signed"},
	} {
		var f faults
		f.secured(&test.config)
		switch {
		case test.want == "" && len(f) > 0:
			t.Errorf("%+v: %v", test.config, f)
		case test.want != "" && (len(f) != 1 || !strings.HasPrefix(f[0].Error(), test.want+":")):
			t.Errorf("%+v: %v, want a fault of %s", test.config, f, test.want)
		}
	}
}

// TestServeTLS45 is checklist 45 behind TLS, from the command line to the wire:
// the app, by HTTP/2, with HSTS.
func TestServeTLS45(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--tls-self-signed")
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, //nolint:gosec // self-signed, as it says
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/rooms/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(body), "<html") || res.ProtoMajor != 2 || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %v, %d bytes: %v", res.Proto, res.Header, len(body), err)
	}
}
