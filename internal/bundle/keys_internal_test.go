package bundle

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// The table of keys is exactly wrangler's published schema, and says of each key
// whether environments inherit it.
func TestKeysAreWranglersSchema(t *testing.T) {
	raw, err := os.ReadFile(peertest.Get(t).Bin("wrangler", "config-schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Definitions map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	table := map[string]configKey{}
	for _, k := range configKeys() {
		if _, twice := table[k.name]; twice {
			t.Errorf("%s is in the table twice", k.name)
		}
		table[k.name] = k
		if k.use == keyRefused && (k.why == "" || k.next == "") {
			t.Errorf("%s is refused without a reason or a next step", k.name)
		}
	}
	known := schema.Definitions["RawConfig"].Properties
	if len(known) < 50 {
		t.Fatalf("the schema has only %d keys", len(known))
	}
	for name, p := range known {
		k, ok := table[name]
		if !ok {
			t.Errorf("the schema's key %s is not in the table", name)
			continue
		}
		// These three are own in wrangler's code, but the schema does not say so.
		silent := slices.Contains([]string{"durable_objects", "version_metadata", "k2"}, name)
		if own := strings.Contains(p.Description, "not automatically inherited"); own != k.own && !silent {
			t.Errorf("%s: the schema says own=%v, the table %v", name, own, k.own)
		}
	}
	for name := range table {
		if _, ok := known[name]; !ok {
			t.Errorf("the table's key %s is not in the schema", name)
		}
	}
	for name := range schema.Definitions["RawEnvironment"].Properties {
		if !slices.ContainsFunc(configKeys(), func(k configKey) bool { return k.name == name }) {
			t.Errorf("an environment's key %s is not in the table", name)
		}
	}
}
