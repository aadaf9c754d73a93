package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"math/big"
	"net/http"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
)

// challenge is one proof of work that was given out.
type challenge struct {
	seed      []byte
	k, g      int
	expiresAt time.Time
}

const (
	challengeLife = 2 * time.Minute // peers fact sheet, 2.2
	maxChallenges = 10_000
	seedBytes     = 32
)

// postChallenge gives out a proof of work (wrangler-wire fact sheet, section 3.1).
func postChallenge(c *call) (answer, error) {
	s := c.s
	seed := make([]byte, seedBytes)
	_, _ = rand.Read(seed)
	token := randomText(32) + "." + randomText(120) + "." + randomText(43) // a JWT, live; opaque to the client
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, ch := range s.challenges {
		if now.After(ch.expiresAt) {
			delete(s.challenges, t)
		}
	}
	if len(s.challenges) >= maxChallenges {
		return answer{}, &apiError{status: http.StatusTooManyRequests, code: 971, message: "too many challenges are open", retry: time.Minute}
	}
	ch := challenge{seed: seed, k: s.k, g: s.g, expiresAt: now.Add(challengeLife)}
	s.challenges[token] = ch
	return answer{result: map[string]any{
		"challengeToken": token, "seed": base64.RawURLEncoding.EncodeToString(seed), "k": ch.k, "g": ch.g, "s": 16,
		"expiresAt": ch.expiresAt.Unix(),
	}}, nil
}

type previewRequest struct {
	TermsOfService       string `json:"termsOfService"`
	PrivacyPolicy        string `json:"privacyPolicy"`
	AcceptTermsOfService string `json:"acceptTermsOfService"`
	ChallengeToken       string `json:"challengeToken"`
	Solution             struct {
		Checkpoints string `json:"checkpoints"`
	} `json:"solution"`
	EventCode string `json:"eventCode"`
}

// postPreview makes an account for a solved proof of work (section 3.3).
func postPreview(c *call) (answer, error) {
	s := c.s
	var req previewRequest
	if err := c.body(&req); err != nil {
		return answer{}, err
	}
	if req.TermsOfService != "https://www.cloudflare.com/terms/" || req.PrivacyPolicy != "https://www.cloudflare.com/privacypolicy/" || req.AcceptTermsOfService != "yes" {
		return answer{}, refuse(http.StatusBadRequest, 1018, "terms_not_accepted")
	}
	if err := s.checkSolution(req); err != nil {
		return answer{}, err
	}
	if req.EventCode != "" {
		code, known := s.cfg.EventCodes[req.EventCode]
		if !known {
			code = 1036
		}
		if code != 0 {
			return answer{}, refuse(http.StatusBadRequest, code, "event_code_refused")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.rateLimit(); err != nil {
		return answer{}, err
	}
	a := s.newAccount()
	result := map[string]any{
		"account": map[string]any{
			"id": a.id, "name": a.name, "type": "standard", "apiToken": a.token, "tokenId": a.tokenID,
			"expiresAt": a.expiresAt.Format("2006-01-02T15:04:05Z"),
		},
		"claim": map[string]any{
			"token": a.claimToken, "url": s.dash + "/claim-preview?claimToken=" + a.claimToken,
			"expiresAt": a.expiresAt.Format("2006-01-02T15:04:05.000Z"),
		},
	}
	if req.EventCode != "" {
		result["eventCodeAccepted"] = true
	}
	return answer{result: result}, nil
}

// checkSolution takes the challenge out of play and checks what was made of it.
func (s *Sandbox) checkSolution(req previewRequest) error {
	invalid := refuse(http.StatusForbidden, 1019, "pow_invalid")
	s.mu.Lock()
	ch, ok := s.challenges[req.ChallengeToken]
	delete(s.challenges, req.ChallengeToken) // one try a challenge
	s.mu.Unlock()
	if !ok || s.clock.Now().After(ch.expiresAt) {
		return invalid
	}
	points, err := base64.StdEncoding.DecodeString(req.Solution.Checkpoints)
	if err != nil {
		return invalid
	}
	if err := pow.Verify(ch.seed, ch.k, ch.g, points, s.segments(ch.k)); err != nil {
		return invalid
	}
	return nil
}

// segments picks which segments of a solution are recomputed.
func (s *Sandbox) segments(k int) []int {
	n := s.cfg.CheckSegments
	all := make([]int, k)
	for i := range all {
		all[i] = i
	}
	if n < 0 || n >= k {
		return all
	}
	for i := range n { // the first n of a shuffle
		j, err := rand.Int(rand.Reader, big.NewInt(int64(k-i)))
		if err != nil {
			return all
		}
		o := i + int(j.Int64())
		all[i], all[o] = all[o], all[i]
	}
	return all[:n]
}

// rateLimit bounds how many accounts are made; the caller holds Sandbox.mu.
func (s *Sandbox) rateLimit() error {
	now := s.clock.Now()
	recent := s.made[:0]
	for _, t := range s.made {
		if now.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	s.made = recent
	if limit := s.cfg.AccountsPerMinute; limit > 0 && len(recent) >= limit {
		wait := time.Minute - now.Sub(recent[0])
		return &apiError{status: http.StatusTooManyRequests, code: 971, message: "Please wait and consider throttling your request speed", retry: wait.Round(time.Second) + time.Second}
	}
	s.made = append(s.made, now)
	return nil
}
