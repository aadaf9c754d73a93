package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
)

// The MIME types of modules in an upload (wrangler-wire fact sheet, section 6).
const (
	TypeESModule  = "application/javascript+module"
	TypeCommonJS  = "application/javascript"
	TypeText      = "text/plain"
	TypeData      = "application/octet-stream"
	TypeWasm      = "application/wasm"
	TypeSourceMap = "application/source-map"
)

// Module is one part of an upload: its name as the program imports it (relative,
// slash-separated, possibly with a leading "./"), its MIME type and its bytes.
type Module struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Content []byte `json:"content"`
}

// Binding is one binding as it goes into the upload's metadata: a JSON object with
// at least "name" and "type" (wrangler-wire fact sheet, section 6.1).
type Binding map[string]any

// Name is the binding's name, or "".
func (b Binding) Name() string { s, _ := b["name"].(string); return s }

// Type is the binding's type, or "".
func (b Binding) Type() string { s, _ := b["type"].(string); return s }

// Asset is one static file: its URL path (leading slash, raw UTF-8) and its bytes.
type Asset struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
}

// Assets are the static files of a Worker and how they are served. Config holds
// the keys of metadata.assets.config (wrangler-wire fact sheet, section 9).
type Assets struct {
	Files  []Asset        `json:"files"`
	Config map[string]any `json:"config,omitempty"`
	// LeftOut are the paths that were not taken because they look like secrets.
	LeftOut []string `json:"left_out,omitempty"`
}

// Sized names one input and what it weighs in the output, in bytes.
type Sized struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Diagnostic is one row of what the bundler has to say. Line counts from 1 and
// Column from 1, in characters; both are 0 where there is no place.
type Diagnostic struct {
	Severity   string `json:"severity"` // "error" or "warning"
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Text       string `json:"text"`
	SourceLine string `json:"source_line,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

// Artifact is what the bundler made of a Source: everything that an upload needs.
type Artifact struct {
	// Name is the Worker's name, valid for Cloudflare.
	Name string `json:"name"`
	// MainModule names one of Modules; empty for an assets-only Worker.
	MainModule         string    `json:"main_module,omitempty"`
	Modules            []Module  `json:"modules,omitempty"` // main first, then the others, then source maps
	CompatibilityDate  string    `json:"compatibility_date"`
	CompatibilityFlags []string  `json:"compatibility_flags,omitempty"`
	Bindings           []Binding `json:"bindings,omitempty"`
	// Resources are what is found or made on the account; nil: nothing.
	Resources *Resources     `json:"resources,omitempty"`
	Assets    *Assets        `json:"assets,omitempty"`
	Metadata  map[string]any `json:"metadata,omitempty"` // further keys of the upload's metadata
	// Bytes and GzipBytes count modules without source maps, as wrangler counts them.
	Bytes     int64   `json:"bytes"`
	GzipBytes int64   `json:"gzip_bytes"`
	Largest   []Sized `json:"largest,omitempty"`
	// Packages are the npm packages that the bundler put into it, by name and version; a
	// package that came already bundled is not known to it.
	Packages    []PackageFact `json:"packages,omitempty"`
	Diagnostics []Diagnostic  `json:"diagnostics,omitempty"`
	Warnings    []string      `json:"warnings,omitempty"`
	// Digest is the SHA-256, in hex, of everything above that decides what is deployed.
	Digest string `json:"digest"`
}

// Seal computes the digest over everything that decides what gets deployed: name,
// modules, assets, bindings, date, flags, metadata. Equal content gives an equal
// digest, whatever the diagnostics say.
func (a *Artifact) Seal() error {
	h := sha256.New()
	head, err := json.Marshal(struct {
		Name, Main, Date string
		Flags            []string
		Bindings         []Binding
		Metadata         map[string]any
		AssetConfig      map[string]any
		Resources        *Resources `json:",omitempty"`
	}{a.Name, a.MainModule, a.CompatibilityDate, a.CompatibilityFlags, a.Bindings, a.Metadata, a.assetConfig(), a.Resources})
	if err != nil {
		return fmt.Errorf("digest of an artifact: %w", err)
	}
	part(h, "head", "", head)
	for _, m := range a.Modules {
		part(h, m.Name, m.Type, m.Content)
	}
	if a.Assets != nil {
		for _, f := range a.Assets.Files {
			part(h, f.Path, "asset", f.Content)
		}
	}
	a.Digest = hex.EncodeToString(h.Sum(nil))
	return nil
}

func (a *Artifact) assetConfig() map[string]any {
	if a.Assets == nil {
		return nil
	}
	return a.Assets.Config
}

// part writes one length-prefixed part, so that no two part lists collide.
func part(h hash.Hash, name, kind string, content []byte) {
	fmt.Fprintf(h, "%d %d %d\n%s%s", len(name), len(kind), len(content), name, kind)
	h.Write(content)
}

// BundleID is the handle of the artifact for its owner: "b_" and the digest's
// first 32 hex digits.
func (a *Artifact) BundleID() string { return "b_" + a.Digest[:32] }

// SourceMap gives the source map of a module, or nil.
func (a *Artifact) SourceMap(module string) []byte {
	for _, m := range a.Modules {
		if m.Type == TypeSourceMap && m.Name == module+".map" {
			return m.Content
		}
	}
	return nil
}
