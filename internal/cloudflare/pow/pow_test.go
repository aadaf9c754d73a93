package pow_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func TestMain(m *testing.M) {
	peertest.FixedSeed()
	os.Exit(m.Run())
}

//go:embed testdata/vectors.json
var vectorsJSON []byte

type vector struct {
	Seed        string `json:"seed"`
	K           int    `json:"k"`
	G           int    `json:"g"`
	Length      int    `json:"length"`
	SHA256      string `json:"sha256"`
	Last        string `json:"last"`
	Checkpoints string `json:"checkpoints"`
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	if err := json.Unmarshal(vectorsJSON, &out); err != nil {
		t.Fatal(err)
	}
	if len(out) < 5 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

func TestSolveGivesTheVectorsOfAnotherProgram(t *testing.T) {
	for _, v := range vectors(t) {
		seed, err := hex.DecodeString(v.Seed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pow.Solve(t.Context(), seed, v.K, v.G)
		if err != nil {
			t.Fatalf("k=%d g=%d: %v", v.K, v.G, err)
		}
		sum := sha256.Sum256(got)
		if len(got) != v.Length || hex.EncodeToString(sum[:]) != v.SHA256 || hex.EncodeToString(got[len(got)-32:]) != v.Last {
			t.Errorf("k=%d g=%d: %d bytes with SHA-256 %x, want %d with %s", v.K, v.G, len(got), sum, v.Length, v.SHA256)
		}
		if v.Checkpoints != "" && base64.StdEncoding.EncodeToString(got) != v.Checkpoints {
			t.Errorf("k=%d g=%d: other checkpoints than the vector's", v.K, v.G)
		}
		all := make([]int, v.K)
		for i := range all {
			all[i] = i
		}
		if err := pow.Verify(seed, v.K, v.G, got, all); err != nil {
			t.Errorf("k=%d g=%d: %v", v.K, v.G, err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	seed := make([]byte, 32)
	for _, tc := range []struct {
		name string
		seed []byte
		k, g int
		want error
	}{
		{"no seed", nil, 1, 1, pow.ErrSeed},
		{"short seed", seed[:31], 1, 1, pow.ErrSeed},
		{"long seed", append(seed[:32:32], 0), 1, 1, pow.ErrSeed},
		{"no segments", seed, 0, 1, pow.ErrParameters},
		{"no hashes", seed, 1, 0, pow.ErrParameters},
		{"negative", seed, -1, -1, pow.ErrParameters},
		{"one over the cap", seed, 1, pow.MaxWork + 1, pow.ErrTooHard},
		{"over the cap", seed, 8001, 8000, pow.ErrTooHard},
		{"a proof of 2 GB", seed, pow.MaxWork, 1, pow.ErrTooHard},
		{"overflow", seed, math.MaxInt, math.MaxInt, pow.ErrTooHard},
		{"overflow to small", seed, 1 << 32, 1 << 32, pow.ErrTooHard},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := pow.Solve(t.Context(), tc.seed, tc.k, tc.g); !errors.Is(err, tc.want) {
				t.Errorf("Solve: %v, want %v", err, tc.want)
			}
			if err := pow.Verify(tc.seed, tc.k, tc.g, nil, nil); !errors.Is(err, tc.want) {
				t.Errorf("Verify: %v, want %v", err, tc.want)
			}
			if pow.VerifySegment(tc.seed, tc.k, tc.g, nil, 0) {
				t.Error("VerifySegment took it")
			}
		})
	}
	if err := pow.Check(seed, 8000, 8000); err != nil {
		t.Errorf("exactly the cap: %v", err)
	}
}

func TestVerifyFindsEveryChangedByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		k, g := rapid.IntRange(1, 6).Draw(t, "k"), rapid.IntRange(1, 40).Draw(t, "g")
		points, err := pow.Solve(context.Background(), seed, k, g)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]int, k)
		for i := range all {
			all[i] = i
			if !pow.VerifySegment(seed, k, g, points, i) {
				t.Fatalf("segment %d of a right proof is refused", i)
			}
		}
		if err := pow.Verify(seed, k, g, points, all); err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, len(points)-1).Draw(t, "at")
		bad := bytes.Clone(points)
		bad[at] ^= rapid.ByteRange(1, 255).Draw(t, "xor")
		if err := pow.Verify(seed, k, g, bad, all); !errors.Is(err, pow.ErrSegment) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
		for _, i := range all {
			touched := at/32 == i || at/32 == i+1
			if got := pow.VerifySegment(seed, k, g, bad, i); got == touched {
				t.Fatalf("byte %d changed, segment %d: %v", at, i, got)
			}
		}
		if err := pow.Verify(seed, k, g, points[:len(points)-1], all); !errors.Is(err, pow.ErrCheckpoints) {
			t.Fatalf("a byte short: %v", err)
		}
		if err := pow.Verify(seed, k, g+1, points, all); !errors.Is(err, pow.ErrSegment) {
			t.Fatalf("too little work: %v", err)
		}
		for _, i := range []int{-1, k, math.MaxInt} {
			if pow.VerifySegment(seed, k, g, points, i) || pow.Verify(seed, k, g, points, []int{i}) == nil {
				t.Fatalf("segment %d does not exist", i)
			}
		}
	})
}

func TestAChainFromAnotherSeedIsRefused(t *testing.T) {
	seed, other := make([]byte, 32), bytes.Repeat([]byte{1}, 32)
	points, err := pow.Solve(t.Context(), other, 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := pow.Verify(seed, 4, 4, points, nil); !errors.Is(err, pow.ErrSegment) {
		t.Errorf("without any segment asked for: %v", err)
	}
	if pow.VerifySegment(seed, 4, 4, points, 0) {
		t.Error("segment 0 does not start at the seed's hash")
	}
}

func TestSolveStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pow.Solve(ctx, make([]byte, 32), 1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := pow.Solve(ctx, make([]byte, 32), 1, pow.MaxWork); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("out of time: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v to notice", took)
	}
}

func TestSolveAllocatesItsResultOnly(t *testing.T) {
	seed := make([]byte, 32)
	if n := testing.AllocsPerRun(10, func() { _, _ = pow.Solve(t.Context(), seed, 50, 50) }); n > 1 {
		t.Errorf("%v allocations for one proof", n)
	}
}

func BenchmarkSolveLive(b *testing.B) {
	seed := make([]byte, 32)
	for b.Loop() {
		if _, err := pow.Solve(b.Context(), seed, 1000, 2000); err != nil {
			b.Fatal(err)
		}
	}
}
