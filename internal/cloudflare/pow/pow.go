// Package pow is the proof of work that Cloudflare asks for before it makes a
// temporary account: a strictly sequential chain of SHA-256 over 32 bytes, of
// which only a checkpoint every g hashes is handed in, so that the verifier can
// recompute a few segments instead of the whole chain (wrangler-wire fact sheet,
// section 3.2).
//
// Both sides are here, because the client solves and the sandbox verifies; the
// test vectors come from a program that shares no code with it
// (testdata/vectors.py). Fetching challenges, base64 and handing in are left to
// the callers.
package pow

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	// Size is the length of a seed and of a checkpoint, in bytes.
	Size = sha256.Size
	// MaxWork is the most k*g, in hashes, that is solved or verified. It is the
	// cap that wrangler 4.164.0 has; two million hashes took 0.17 s on the machine
	// that the fact sheet was measured on.
	MaxWork = 64_000_000
	// MaxSegments is the most k: a proof has 32*(k+1) bytes, and with MaxWork alone
	// an answer of a few bytes could ask us to hold 2 GB. Live was seen at 1,000 and
	// 8,000.
	MaxSegments = 1_000_000
	// checkEvery is after how many hashes Solve looks at its context: about 2 ms.
	checkEvery = 1 << 14
)

// What Solve, Verify and Check refuse; compare with errors.Is.
var (
	ErrSeed        = errors.New("the seed is not 32 bytes long")
	ErrParameters  = errors.New("k and g must both be at least 1")
	ErrTooHard     = errors.New("the challenge is over the cap on work")
	ErrCheckpoints = errors.New("the checkpoints do not have the length that k asks for")
	ErrSegment     = errors.New("a segment does not lead to its checkpoint")
)

// Check tells whether a challenge may be worked on: a seed of 32 bytes, k and g
// at least 1, k*g at most MaxWork, k at most MaxSegments. The error wraps ErrSeed, ErrParameters or
// ErrTooHard.
func Check(seed []byte, k, g int) error {
	switch {
	case len(seed) != Size:
		return fmt.Errorf("%w: it has %d", ErrSeed, len(seed))
	case k < 1 || g < 1:
		return fmt.Errorf("%w: k=%d, g=%d", ErrParameters, k, g)
	case k > MaxWork/g: // a division, as k*g may overflow
		return fmt.Errorf("%w of %d hashes: k=%d, g=%d", ErrTooHard, MaxWork, k, g)
	case k > MaxSegments:
		return fmt.Errorf("%w of %d segments: k=%d, g=%d", ErrTooHard, MaxSegments, k, g)
	}
	return nil
}

// Solve gives the (k+1)*32 bytes of checkpoints: the SHA-256 of the seed, then the
// state after each of the k segments of g hashes.
//
// Errors: those of Check, and ctx's error, which it looks at every few thousand
// hashes.
func Solve(ctx context.Context, seed []byte, k, g int) ([]byte, error) {
	if err := Check(seed, k, g); err != nil {
		return nil, err
	}
	state := sha256.Sum256(seed)
	out := make([]byte, 0, (k+1)*Size)
	out = append(out, state[:]...)
	budget := 0 // the first look is at once: a call that was cancelled does nothing
	for range k {
		for left := g; left > 0; {
			if budget == 0 {
				if err := ctx.Err(); err != nil {
					return nil, fmt.Errorf("proof of work: %w", err)
				}
				budget = checkEvery
			}
			n := min(left, budget)
			chain(&state, n)
			left, budget = left-n, budget-n
		}
		out = append(out, state[:]...)
	}
	return out, nil
}

// chain replaces the state by its n-th hash, without allocating.
func chain(state *[Size]byte, n int) {
	for range n {
		*state = sha256.Sum256(state[:])
	}
}

// Verify checks the form of checkpoints, that the first is the hash of the seed,
// and the given segments, each in 0..k-1 and each g hashes of work. Whoever checks
// all of them has proven the whole chain.
//
// Errors: those of Check, ErrCheckpoints for a wrong length, ErrSegment.
func Verify(seed []byte, k, g int, checkpoints []byte, segments []int) error {
	if err := Check(seed, k, g); err != nil {
		return err
	}
	if len(checkpoints) != (k+1)*Size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrCheckpoints, len(checkpoints), (k+1)*Size)
	}
	if sha256.Sum256(seed) != [Size]byte(checkpoints) {
		return fmt.Errorf("%w: the first checkpoint is not the hash of the seed", ErrSegment)
	}
	for _, i := range segments {
		if i < 0 || i >= k {
			return fmt.Errorf("%w: there is no segment %d of %d", ErrSegment, i, k)
		}
		if !segment(g, checkpoints, i) {
			return fmt.Errorf("%w: segment %d", ErrSegment, i)
		}
	}
	return nil
}

// VerifySegment tells whether segment i (0..k-1) leads from its checkpoint to the
// next; segment 0 also has to start at the hash of the seed. It is false for
// anything that Check refuses, a wrong length, and an i out of range.
func VerifySegment(seed []byte, k, g int, checkpoints []byte, i int) bool {
	if Check(seed, k, g) != nil || len(checkpoints) != (k+1)*Size || i < 0 || i >= k {
		return false
	}
	if i == 0 && sha256.Sum256(seed) != [Size]byte(checkpoints) {
		return false
	}
	return segment(g, checkpoints, i)
}

func segment(g int, checkpoints []byte, i int) bool {
	state := [Size]byte(checkpoints[i*Size:])
	chain(&state, g)
	return state == [Size]byte(checkpoints[(i+1)*Size:])
}
