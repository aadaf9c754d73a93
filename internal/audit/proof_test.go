package audit_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestProof: a proof of every record holds with the public key alone, and no other
// record, index, checkpoint or key does.
func TestProof(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p.fresh(t)).fill(t, 13)
		key, err := d.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(13) {
			proof, err := d.Prove(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			file, err := proof.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := audit.CheckProof(file, key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(event(int(i)), got.Event); diff != "" || got.Index != i || got.Size != 13 {
				t.Errorf("%d: %s", i, diff)
			}
		}
		for _, i := range []int64{-1, 13, 1 << 60} {
			if _, err := d.Prove(t.Context(), i); !deploy.IsCode(err, deploy.CodeInvalidArgument) {
				t.Errorf("%d: %v", i, err)
			}
		}
		// A log that was changed gives no proof of the change.
		d.put(t, 5, forged(5))
		if _, err := d.Prove(t.Context(), 5); !deploy.IsCode(err, deploy.CodeStore) {
			t.Errorf("%v", err)
		}
	})
}

func TestProofForged(t *testing.T) {
	d, other := lay(t, sqlitePlace(t)).fill(t, 13), lay(t, sqlitePlace(t)).fill(t, 13)
	key, _ := d.PublicKey()
	foreign, _ := other.PublicKey()
	good, err := d.Prove(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := good.Encode()
	if bytes.Contains(file, []byte("PRIVATE")) {
		t.Error("the key is in the proof")
	}
	var spaced bytes.Buffer // as a formatter leaves it
	if err := json.Indent(&spaced, file, ">", "\t"); err == nil {
		if _, err := audit.CheckProof([]byte(strings.ReplaceAll(spaced.String(), "\n>", "\n")), key); err != nil {
			t.Error(err)
		}
	}
	for name, change := range map[string]func(p *audit.Proof){
		"the record":        func(p *audit.Proof) { p.Record = bytes.Replace(p.Record, []byte("local"), []byte("locaI"), 1) },
		"another record":    func(p *audit.Proof) { p.Record = forged(6) },
		"no record":         func(p *audit.Proof) { p.Record = json.RawMessage("null") },
		"the index":         func(p *audit.Proof) { p.Index = 7 },
		"a negative index":  func(p *audit.Proof) { p.Index = -1 },
		"the path":          func(p *audit.Proof) { p.Path[1][3] ^= 1 },
		"a shorter path":    func(p *audit.Proof) { p.Path = p.Path[1:] },
		"a longer path":     func(p *audit.Proof) { p.Path = append(p.Path, p.Path...) },
		"no path":           func(p *audit.Proof) { p.Path = nil },
		"the checkpoint":    func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n13\n", "\n14\n", 1) },
		"an older one":      func(p *audit.Proof) { p.Checkpoint = string(d.notes[8]) },
		"another log's":     func(p *audit.Proof) { p.Checkpoint = string(other.notes[12]) },
		"an empty one":      func(p *audit.Proof) { p.Checkpoint = "" },
		"an unsigned one":   func(p *audit.Proof) { p.Checkpoint, _, _ = strings.Cut(p.Checkpoint, "\n\n") },
		"the form":          func(p *audit.Proof) { p.Format = "hourglass-audit-proof/2" },
		"another log's all": func(p *audit.Proof) { q, _ := other.Prove(t.Context(), 6); *p = *q },
	} {
		p := *good
		p.Path = slices.Clone(good.Path)
		change(&p)
		file, err := p.Encode()
		if err != nil {
			continue // not even a file
		}
		if _, err := audit.CheckProof(file, key); !deploy.IsCode(err, deploy.CodeInvalidArgument) || deploy.AsError(err).Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, k := range map[string]string{"another key": foreign, "no key": "", "nonsense": "a+b+c"} {
		if _, err := audit.CheckProof(file, k); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, bad := range []string{"", "{}", "null", "[]", string(file) + "{}", strings.Replace(string(file), `"index"`, `"more": 1, "index"`, 1)} {
		if _, err := audit.CheckProof([]byte(bad), key); !deploy.IsCode(err, deploy.CodeInvalidArgument) {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}
