package cloudflare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// metadataOrder is the order in which wrangler writes the keys (section 6.1). Other
// keys follow it, sorted.
func metadataOrder() []string {
	return []string{
		"main_module", "body_part", "bindings", "containers", "compatibility_date", "compatibility_flags",
		"migrations", "code_update_strategy", "exports", "capnp_schema", "keep_bindings", "logpush", "placement",
		"tail_consumers", "streaming_tail_consumers", "limits", "annotations", "keep_assets", "assets",
		"observability", "cache_options", "package_dependencies",
	}
}

// maxAnnotation bounds each annotation, in bytes.
const maxAnnotation = 100

// maxTags bounds a Worker's tags: up to eight, without commas and ampersands, by
// Cloudflare's documentation. They go with the upload: its documentation and the SDK's
// schema have them among the metadata of an upload that is deployed at once, as ours are.
// wrangler sends them afterwards, by PATCH script-settings, since it uploads versions
// too, whose metadata has none (section 5).
const maxTags = 8

// metadata makes the metadata part of an upload. assetToken is the completion token of
// the static files, "" without any. An assets-only Worker has few keys, in an order
// of its own (section 6.2).
func metadata(up deploy.Upload, assetToken string) ([]byte, error) {
	a := up.Artifact
	all := map[string]any{
		"compatibility_date":  a.CompatibilityDate,
		"compatibility_flags": nonNil(a.CompatibilityFlags),
	}
	if a.MainModule != "" {
		all["main_module"] = a.MainModule
		bindings := a.Bindings
		if up.Bindings != nil {
			bindings = up.Bindings
		}
		all["bindings"] = nonNil(bindings)
		if up.Objects != nil {
			all["migrations"] = up.Objects
		}
		// Without this an upload drops the Worker's secrets.
		all["keep_bindings"] = []string{"secret_text", "secret_key"}
	}
	if a.Assets != nil {
		// a struct, as the token comes first
		all["assets"] = struct {
			JWT    string         `json:"jwt"`
			Config map[string]any `json:"config"`
		}{assetToken, nonNilMap(a.Assets.Config)}
	}
	annotate(all, "workers/message", up.Message)
	annotate(all, "workers/tag", up.Tag)
	if len(up.Tags) > 0 {
		all["tags"] = withTags(up.Tags, a.Metadata["tags"])
	}
	for key, value := range a.Metadata {
		if key == "tags" && len(up.Tags) > 0 {
			continue
		}
		if _, ours := all[key]; ours && key != "keep_bindings" {
			return nil, deploy.Errorf(deploy.CodeConfigInvalid,
				"Remove that key from the configuration's extra metadata, then deploy again.",
				"the extra metadata has the key %q, which the deployment itself sets", key)
		}
		all[key] = value
	}
	return encode(all, a.MainModule == "")
}

// withTags gives the tags with those that the configuration has itself, as far as there
// is room: whose a Worker is has to show whatever the configuration says.
func withTags(tags []string, own any) []string {
	out := slices.Clone(tags)
	list, _ := own.([]any)
	for _, t := range list {
		if s, ok := t.(string); ok && s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out[:min(len(out), maxTags)]
}

func annotate(all map[string]any, key, text string) {
	if text == "" {
		return
	}
	notes, _ := all["annotations"].(map[string]any)
	if notes == nil {
		notes = map[string]any{}
		all["annotations"] = notes
	}
	notes[key] = cut(clean(text), maxAnnotation)
}

// encode writes the keys in order, without the escapes for HTML that JavaScript's
// JSON does not have either.
func encode(all map[string]any, assetsOnly bool) ([]byte, error) {
	order := metadataOrder()
	if assetsOnly {
		order = append([]string{"assets"}, order...)
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if d := rank(order, a) - rank(order, b); d != 0 {
			return d
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	sep := byte('{')
	for _, key := range keys {
		out.WriteByte(sep)
		sep = ','
		if err := enc.Encode(key); err != nil {
			return nil, internal(err)
		}
		out.Truncate(out.Len() - 1) // the line end that Encode adds
		out.WriteByte(':')
		if err := enc.Encode(all[key]); err != nil {
			return nil, deploy.Errorf(deploy.CodeConfigInvalid, "Look at that key in the configuration, then deploy again.",
				"the upload's metadata can't be written as JSON: key %q", key).Caused(fmt.Errorf("metadata: %w", err))
		}
		out.Truncate(out.Len() - 1)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

func rank(order []string, key string) int {
	if i := slices.Index(order, key); i >= 0 {
		return i
	}
	return len(order)
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func nonNilMap(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
