package policy

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var generate = flag.Bool("generate", false, "write the generated parts of docs/secret-scan.md and docs/policy.md anew")

// Floors of the labelled set. A change that falls below one is a step back; a change
// that rises well above should raise them.
const (
	leastSamples   = 200
	leastPrecision = 0.95
	leastRecall    = 0.90
)

// score counts a kind's findings against the labels.
type score struct{ right, wrong, missed int }

type verdict struct {
	byKind         map[string]*score
	all            score
	secret, clean  int
	missed, wrongs []string
}

// judge runs the scanner over the labelled set.
func judge(t *testing.T) verdict {
	t.Helper()
	s := NewScanner(ScannerConfig{})
	v := verdict{byKind: map[string]*score{}}
	of := func(kind string) *score {
		if v.byKind[kind] == nil {
			v.byKind[kind] = &score{}
		}
		return v.byKind[kind]
	}
	for _, one := range samples(t) {
		found, err := s.Scan(t.Context(), one.artifact())
		if err != nil {
			t.Fatal(err)
		}
		left := slices.Clone(one.want)
		if len(left) > 0 {
			v.secret++
		} else {
			v.clean++
		}
		for _, f := range found {
			if i := slices.Index(left, f.Kind); i >= 0 {
				left = slices.Delete(left, i, i+1)
				of(f.Kind).right++
				v.all.right++
				continue
			}
			of(f.Kind).wrong++
			v.all.wrong++
			v.wrongs = append(v.wrongs, fmt.Sprintf("%s (line %d): %s %s", one.file, one.line, f.Kind, f.Sample))
		}
		for _, kind := range left {
			of(kind).missed++
			v.all.missed++
			v.missed = append(v.missed, fmt.Sprintf("%s (line %d): %s", one.file, one.line, kind))
		}
	}
	return v
}

func (s score) precision() float64 { return float64(s.right) / float64(max(1, s.right+s.wrong)) }
func (s score) recall() float64    { return float64(s.right) / float64(max(1, s.right+s.missed)) }

// TestLabelledSet: precision and recall stay above their floors, and the page tells them.
func TestLabelledSet(t *testing.T) {
	v := judge(t)
	t.Logf("%d with secrets, %d without; precision %.3f, recall %.3f", v.secret, v.clean, v.all.precision(), v.all.recall())
	t.Logf("missed:\n%s\nwrong:\n%s", strings.Join(v.missed, "\n"), strings.Join(v.wrongs, "\n"))
	if v.secret+v.clean < leastSamples || v.secret < 80 || v.clean < 80 {
		t.Errorf("the set has %d and %d samples", v.secret, v.clean)
	}
	if v.all.precision() < leastPrecision || v.all.recall() < leastRecall {
		t.Errorf("precision %.3f, recall %.3f", v.all.precision(), v.all.recall())
	}
	page(t, "../../docs/secret-scan.md", "figures", figures(v))
	page(t, "../../docs/secret-scan.md", "kinds", kindsTable())
}

func figures(v verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d samples with secrets, %d without: %d secrets found, %d missed, %d false alarms.\n\n", v.secret, v.clean, v.all.right, v.all.missed, v.all.wrong)
	fmt.Fprintf(&b, "| | precision | recall |\n|---|---:|---:|\n| all | %.3f | %.3f |\n", v.all.precision(), v.all.recall())
	var formats, places score
	for kind, s := range v.byKind {
		sum := &formats
		if general(kind) > 0 || strings.HasPrefix(kind, "url-") || strings.HasPrefix(kind, "database-") {
			sum = &places
		}
		sum.right, sum.wrong, sum.missed = sum.right+s.right, sum.wrong+s.wrong, sum.missed+s.missed
	}
	fmt.Fprintf(&b, "| kinds with a format | %.3f | %.3f |\n| known by their place (names, URLs) | %.3f | %.3f |\n", formats.precision(), formats.recall(), places.precision(), places.recall())
	b.WriteString("\nMissed:\n\n")
	for _, m := range v.missed {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	b.WriteString("\nFalse alarms:\n\n")
	for _, m := range v.wrongs {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	if len(v.wrongs) == 0 {
		b.WriteString("- none in this set\n")
	}
	return b.String()
}

func kindsTable() string {
	var b strings.Builder
	b.WriteString("| kind | what | format after |\n|---|---|---|\n")
	for _, k := range slices.SortedFunc(slices.Values(NewScanner(ScannerConfig{}).kinds), func(a, b kind) int { return cmp.Compare(a.name, b.name) }) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.name, k.what, k.source)
	}
	return b.String()
}

// page holds what stands between two markers of a page to what the code says.
func page(t *testing.T, path, part, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin: "+part+" -->\n", "<!-- end: "+part+" -->"
	head, rest, ok := strings.Cut(string(raw), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part %q", path, part)
	}
	if got == want {
		return
	}
	if !*generate {
		t.Errorf("%s, part %s, differs from the code; run go test ./internal/policy -generate if the code is right. It should be:\n%s", path, part, want)
		return
	}
	if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEveryKindHasASample: no rule is without a text that it finds.
func TestEveryKindHasASample(t *testing.T) {
	v := judge(t)
	for _, k := range NewScanner(ScannerConfig{}).kinds {
		if v.byKind[k.name] == nil || v.byKind[k.name].right == 0 {
			t.Errorf("no sample of %s is found", k.name)
		}
		if k.what == "" || k.source == "" {
			t.Errorf("%s does not say what it is and where its format stands", k.name)
		}
	}
	known := slices.Collect(maps.Keys(v.byKind))
	for _, name := range []string{
		kindAssigned, kindPassword, kindBearer, "private-key", "google-service-account", "database-url", "url-password", "aws-secret-access-key",
		"cloudflare-legacy-token", "cloudflare-global-key", "twilio-auth-token", "datadog-key", "discord-bot-token",
	} {
		if !slices.Contains(known, name) || v.byKind[name].right == 0 {
			t.Errorf("no sample of %s is found", name)
		}
	}
}

// blocksOf gives the samples in JSONC of a page.
func blocksOf(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, part := range strings.Split(string(raw), "```jsonc\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		out = append(out, block)
	}
	return out
}
