package policy_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// ordinary is a mebibyte of code as bundles have it: names of secrets without values,
// addresses, words, numbers.
func ordinary() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 1<<20; i++ {
		fmt.Fprintf(&b, "export class Store%d {\n  private items = new Map<string, Item%d>();\n  async load(token, key) {\n"+
			"    const answer = await fetch(`https://api.acme.dev/v1/items/${key}`, { headers: { authorization: `Bearer ${token}` } });\n"+
			"    if (!answer.ok) throw new Error(\"item %d: \" + answer.status);\n    return this.items.set(key, { password: env.PASSWORD, id: \"%032x\" });\n  }\n}\n", i, i, i, i*7919)
	}
	return b.Bytes()[:1<<20]
}

func BenchmarkScan(b *testing.B) {
	s := policy.NewScanner(policy.ScannerConfig{})
	a := &deploy.Artifact{Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: ordinary()}}}
	b.SetBytes(1 << 20)
	for b.Loop() {
		if found, err := s.Scan(b.Context(), a); err != nil || len(found) > 0 {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkScanHostile is text that begins secrets everywhere and ends none: it must not
// be slower by more than a factor.
func BenchmarkScanHostile(b *testing.B) {
	s := policy.NewScanner(policy.ScannerConfig{})
	for _, begin := range []string{"-eyJ", "ghp_", "password=\"", "key='", "://a:", "-----BEGIN ", "-us14", "-ops_eyJ", "ghs_1_eyJ", "bearer a", "AIza", "token=token='token=\"token=`", "T3BlbkFJ", "sk.eyJ"} {
		b.Run(fmt.Sprintf("%q", begin), func(b *testing.B) {
			text := bytes.Repeat([]byte(begin), (1<<20)/len(begin))
			a := &deploy.Artifact{Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: text}}}
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := s.Scan(b.Context(), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewScanner(b *testing.B) {
	for b.Loop() {
		policy.NewScanner(policy.ScannerConfig{})
	}
}
