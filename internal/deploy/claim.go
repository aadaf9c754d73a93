package deploy

import (
	"strings"
	"time"
)

// ClaimState is how far the wish that a human keeps the account has come.
type ClaimState string

// The states of a claim.
const (
	ClaimAwaiting ClaimState = "awaiting_human"
	ClaimApproved ClaimState = "approved"
	ClaimRefused  ClaimState = "refused"
	ClaimLapsed   ClaimState = "lapsed"
	// ClaimWithdrawn: the asking was taken back before a human decided.
	ClaimWithdrawn ClaimState = "withdrawn"
	// ClaimOpened: after the yes, the human was led on to Cloudflare's page.
	ClaimOpened ClaimState = "opened"
	// ClaimProbablyAdopted: it still served after the account's hour and a margin.
	ClaimProbablyAdopted ClaimState = "probably_adopted"
	// ClaimAdopted: a human said that they finished at Cloudflare.
	ClaimAdopted ClaimState = "adopted"
)

// Claim is the wish that a human takes the whole account over.
type Claim struct {
	ID        string
	SessionID string
	AccountID string
	Principal string
	// PageToken is the secret part of the address of the page that the human decides
	// on. It is not Cloudflare's claim token.
	PageToken Secret
	State     ClaimState
	Message   string // the agent's words to the human: foreign text
	// Digest fixes what the human is asked to adopt: every Worker with its digest.
	Digest    string
	AskedAt   time.Time
	ExpiresAt time.Time
	DecidedAt time.Time
	// Browser binds an approval to the browser that gave it (SHA-256 of a cookie).
	Browser string
	// DecidedBy is the human, as the channel knows them; never the one who asked.
	DecidedBy string
	// Channel is how the human was heard: one of the Channel names.
	Channel string
	// Evidence says how its last state is known.
	Evidence string
	// Yes is what a yes has to be, fixed when it was asked for.
	Yes YesRule
	// Custody says in words who can open the claim link: "sealed to KEY", or "attended".
	Custody string
}

// The channels on which a human can be heard.
const (
	ChannelPage    = "page"    // the attended page: whoever opens its address on this machine
	ChannelConsole = "console" // a page behind a login
	ChannelPasskey = "passkey" // the same, with a touch bound to what is adopted
	ChannelCommand = "command" // the operator's command, at a terminal
	ChannelSealed  = "sealed"  // the claim is sealed to a human's key; who opens it decides
)

// Human is who decides, as a channel knows them.
type Human struct {
	Name    string
	Channel string
	// Owner is whose credentials the human's are, for four eyes; empty: not known.
	Owner string
	// Browser binds a yes to the browser that gave it.
	Browser string
}

// ClaimMove is one transition of a claim.
type ClaimMove struct {
	ID       string
	From, To ClaimState
	By       string
	Channel  string
	Browser  string
	Evidence string
	// Probe and Confidence are the parts of Evidence, for the record: what was asked or
	// heard, and "high", "medium" or "low".
	Probe, Confidence string
	At                time.Time
}

// Given tells whether a human has said yes: the account is theirs to finish with.
func (s ClaimState) Given() bool {
	return s == ClaimApproved || s == ClaimOpened || s == ClaimProbablyAdopted || s == ClaimAdopted
}

// Sealed tells whether the claim link is sealed to humans' keys.
func (c *Claim) Sealed() bool { return strings.HasPrefix(c.Custody, sealedTo) }

// StateAt is the claim's state at now: what nobody decided in time has lapsed.
func (c *Claim) StateAt(now time.Time) ClaimState {
	if c.State == ClaimAwaiting && !now.Before(c.ExpiresAt) {
		return ClaimLapsed
	}
	return c.State
}

// ClaimView is what the human is shown: everything that would be adopted.
type ClaimView struct {
	Claim   Claim
	Session Session
	Account Account // without its secrets
	Estate  Estate
	State   ClaimState
	Left    time.Duration
	// Sealed: the claim link is sealed to humans' keys, so that no page leads on to it.
	Sealed bool
}
