package deploy

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Cloudflare tells nobody what became of an account. What is said of a claim's end is what
// was seen or heard, by whom, when, and how much it is worth.

// data is what a record says of a move.
func (m ClaimMove) data(claim *Claim) map[string]string {
	out := map[string]string{
		"from": string(m.From), "to": string(m.To), "by": m.By, "channel": m.Channel, "custody": claim.Custody, "probe": m.Probe, "confidence": m.Confidence,
	}
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return out
}

// Approved tells whether a human said yes, whatever became of it since.
func (c *Claim) Approved() bool {
	return c.State.Given() || c.State == ClaimLapsed && c.DecidedBy != ""
}

// wordOf is the move that a human's word makes. It is worth more from somebody who logged
// in, or holds the key, than from whoever is at the machine.
func wordOf(who Human, did bool, now time.Time) ClaimMove {
	m := ClaimMove{To: ClaimAdopted, By: who.Name, Channel: who.Channel, Probe: "a human's word", Confidence: "medium"}
	if who.Channel == ChannelConsole || who.Channel == ChannelPasskey || who.Channel == ChannelSealed {
		m.Confidence = "high"
	}
	word := "that the account is in their dashboard"
	if !did {
		m.To, word = ClaimLapsed, "that they did not finish at Cloudflare"
	}
	m.Evidence = fmt.Sprintf("a human says %s: %s, %s, at %s (confidence: %s)", word, who.Name, channelWords(who.Channel), now.Format(time.RFC3339), m.Confidence)
	return m
}

// unanswered is the move of a claim that nobody decided about in time. Who holds the key of
// a sealed one can open it elsewhere without a word to this server.
func unanswered(claim *Claim) ClaimMove {
	m := ClaimMove{To: ClaimLapsed, Evidence: "nobody decided in time", Confidence: "high"}
	if claim.Sealed() {
		m.Evidence, m.Confidence = "no decision reached this server in time; who holds the key may have opened the link from a claim file", "low"
	}
	return m
}

// outcomeOf tells from outside what became of an approved claim: what nobody claimed is
// deleted with its account, so what still serves well after the hour (now, by the account's
// clock) was adopted, probably. Unreachable is not known, and looked at again; a day later it is over.
func (s *Service) outcomeOf(ctx context.Context, claim *Claim, now time.Time) (ClaimMove, bool) {
	lapsed := ClaimMove{
		To: ClaimLapsed, Evidence: fmt.Sprintf("nothing of it served at %s, after the account's hour (confidence: high)", now.Format(time.RFC3339)), Confidence: "high",
	}
	deps, err := s.cfg.Store.Deployments(ctx, claim.SessionID)
	if err != nil {
		return ClaimMove{}, false
	}
	asked := false
	for _, d := range newestByWorker(slices.DeleteFunc(deps, func(d Deployment) bool { return d.AccountID != claim.AccountID || d.gone() })) {
		if d.Host == "" {
			continue
		}
		limited, stop := context.WithTimeout(ctx, probeLimit)
		resp, err := s.cfg.Edge.Fetch(limited, d.Host, "/", nil)
		stop()
		if err != nil {
			continue
		}
		asked, lapsed.Probe = true, fmt.Sprintf("GET https://%s/ answered %d", d.Host, resp.Status)
		if resp.Status != http.StatusNotFound && resp.Status < 520 {
			return ClaimMove{
				To: ClaimProbablyAdopted, Probe: lapsed.Probe, Confidence: "medium",
				Evidence: fmt.Sprintf("%s answered HTTP %d at %s, %s after the account's hour (confidence: medium)",
					d.Host, resp.Status, now.Format(time.RFC3339), now.Sub(claim.ExpiresAt).Round(time.Minute)),
			}, true
		}
	}
	if !asked {
		lapsed.Confidence, lapsed.Evidence = "low", "for a day after the account's hour nothing of it could be reached from here (confidence: low)"
	}
	return lapsed, asked || now.Sub(claim.ExpiresAt) > 24*time.Hour
}
