package audit_test

import (
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/audit"
)

// BenchmarkAppend is one durable, signed record, on each kind of database.
func BenchmarkAppend(b *testing.B) {
	for name, p := range map[string]func(testing.TB) place{"sqlite": sqlitePlace, "postgres": postgresPlace} {
		b.Run(name, func(b *testing.B) {
			d := lay(b, p(b)).fill(b, 1)
			i := 0
			for b.Loop() {
				i++
				if err := d.Append(b.Context(), event(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify is a log of 1000 records.
func BenchmarkVerify(b *testing.B) {
	d := lay(b, sqlitePlace(b).fresh(b)).fill(b, 1000)
	for b.Loop() {
		if r, err := d.Verify(b.Context(), audit.Verification{}); err != nil || !r.OK {
			b.Fatal(err, r)
		}
	}
}
