package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// secured checks that connections can be secured as the settings say.
func (f *faults) secured(c *Config) {
	switch {
	case c.TLSSelfSigned && (c.TLSCert != "" || c.TLSKey != ""):
		f.addf("--tls-self-signed", "is in place of --tls-cert and --tls-key")
	case c.TLSCert != "" && c.TLSKey == "":
		f.addf("--tls-key", "is needed with --tls-cert")
	case c.TLSCert == "" && c.TLSKey != "":
		f.addf("--tls-cert", "is needed with --tls-key")
	case c.TLSCert != "":
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			f.addf("--tls-cert", "cannot be used with --tls-key: %v", err)
		}
	}
}

// tls is what a node's connections are secured with; nil where they are not.
func (c *Config) tls() (*tls.Config, error) {
	cert := &certificate{certFile: c.TLSCert, keyFile: c.TLSKey}
	switch {
	case c.TLSSelfSigned:
		cert.certFile, cert.keyFile = filepath.Join(c.DataDir, "tls-cert.pem"), filepath.Join(c.DataDir, "tls-key.pem")
		if err := cert.selfSign(c.Listen); err != nil {
			return nil, fmt.Errorf("--tls-self-signed: %w", err)
		}
	case c.TLSCert == "":
		return nil, nil //nolint:nilnil // no TLS is nothing to report
	}
	if err := cert.load(); err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}, nil
}

// certificate is one in two files, which are looked at again once a minute, so
// that whoever renews it need not restart anything.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	written time.Time // when the file of the current one was
	looked  time.Time
}

const lookAgain = time.Minute

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookAgain {
		return c.current, nil
	}
	c.looked = time.Now()
	if info, err := os.Stat(c.certFile); err == nil && !info.ModTime().Equal(c.written) {
		if err := c.read(); err != nil { // perhaps half written: the old one is good a while longer
			slog.Warn("the certificate cannot be read again", "error", err)
		}
	}
	return c.current, nil
}

func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = time.Now()
	return c.read()
}

func (c *certificate) read() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.written = &pair, info.ModTime()
	return nil
}

const (
	selfSignedFor  = 365 * 24 * time.Hour
	selfSignedLeft = 30 * 24 * time.Hour // with less left of it, another is made
)

// selfSign makes a certificate for this machine, unless there is a good one:
// browsers remember which one somebody has let pass.
func (c *certificate) selfSign(listen string) error {
	if c.load() == nil && time.Until(c.current.Leaf.NotAfter) > selfSignedLeft {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := selfSigned(listen, serial, time.Now())
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(filepath.Dir(c.certFile), 0o700),
		os.WriteFile(c.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
		os.WriteFile(c.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
	)
}

func selfSigned(listen string, serial *big.Int, now time.Time) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "free2talk, for developing"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	host, _, err := net.SplitHostPort(listen)
	switch ip := net.ParseIP(host); {
	case err != nil || host == "" || ip != nil && ip.IsUnspecified():
	case ip != nil:
		template.IPAddresses = append(template.IPAddresses, ip)
	default:
		template.DNSNames = append(template.DNSNames, host)
	}
	return template
}
