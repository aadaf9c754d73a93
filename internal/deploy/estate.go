package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// TokenNote is what every human is told who is asked to keep an account, before and after
// the yes.
const TokenNote = "With your yes this server wipes its API token for the account and can't write to it any more. " +
	"The token itself still exists, and goes over with the account: once it is yours, open Cloudflare's dashboard, look under the account's API tokens, and revoke what you did not make."

// Estate is everything that whoever keeps an account takes over. It is the one home of
// what a human is shown: the attended page, the console and the claim command show its Items.
type Estate struct {
	Deployments []ClaimedDeployment `json:"deployments"`
	// Resources are what the Workers stored into or are triggered by, as far as it was made
	// from here; claim files from before they were listed have none.
	Resources []ClaimedResource `json:"resources,omitempty"`
	// Foreign is what is on the account, or was, that was not made from here.
	Foreign []ForeignChange `json:"foreign,omitempty"`
}

// ClaimedDeployment is one Worker that would be adopted.
type ClaimedDeployment struct {
	Worker    string    `json:"worker"`
	URL       string    `json:"url,omitempty"`
	VersionID string    `json:"version_id,omitempty"`
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"created_at"`
	Serving   string    `json:"serving,omitempty"`
	Check     *Check    `json:"check,omitempty"`
	// Files are what was uploaded, where that is still known.
	Files []Sized `json:"files,omitempty"`
}

// ClaimedResource is one thing beside the code that would be adopted.
type ClaimedResource struct {
	// Type is one of the Resource types, or ResourceSecret.
	Type string `json:"type"`
	Name string `json:"name"`
	// Worker is whose it is; empty: any Worker of the account may use it.
	Worker string `json:"worker,omitempty"`
	// Unsure: the answer to its making was lost, so it may not be there.
	Unsure bool `json:"unsure,omitempty"`
}

// ResourceSecret is a secret binding: its value goes over with the account.
const ResourceSecret = "secret"

// newEstate lists the newest deployment of each Worker, with its files by its ID.
func newEstate(deps []Deployment, files map[string][]Sized, resources []ClaimedResource, foreign []ForeignChange) Estate {
	e := Estate{Deployments: []ClaimedDeployment{}, Resources: resources, Foreign: foreign}
	for _, d := range newestByWorker(deps) {
		e.Deployments = append(e.Deployments, ClaimedDeployment{
			Worker: d.Worker, URL: d.URL, VersionID: d.VersionID, Digest: d.Digest, CreatedAt: d.CreatedAt.UTC(),
			Serving: d.Serving, Check: d.Check, Files: files[d.ID],
		})
	}
	return e
}

// Item is one thing of an Estate with what is known of it. Names and values that others
// wrote are as they wrote them: who shows them makes them harmless.
type Item struct {
	Title string
	Facts []Fact
}

// Fact is one line about an Item.
type Fact struct {
	Name, Value string
	Kind        FactKind
}

// FactKind is how a fact is best shown.
type FactKind string

// The kinds of facts.
const (
	FactText    FactKind = ""
	FactCode    FactKind = "code"    // a digest, a name of the API's
	FactAddress FactKind = "address" // an address, which may be a link if it is a good one
)

// maxItemFiles are listed of one Worker; the rest is counted.
const maxItemFiles = 50

// Items are the lines that a human is shown: one Item a Worker, then one for the rest.
func (e *Estate) Items() []Item {
	var out []Item
	for i := range e.Deployments {
		out = append(out, e.Deployments[i].item())
	}
	if len(e.Deployments) == 0 {
		out = append(out, Item{Title: "Nothing", Facts: []Fact{{Name: "Workers", Value: "nothing is deployed on it"}}})
	}
	rest := Item{Title: "Beside the code"}
	for _, r := range e.Resources {
		value := r.Name
		if r.Worker != "" {
			value += " (of " + r.Worker + ")"
		}
		if r.Unsure {
			value += ", which may not be there: the answer to its making was lost"
		}
		rest.Facts = append(rest.Facts, Fact{Name: resourceWords(r.Type), Value: value})
	}
	if len(e.Resources) == 0 {
		rest.Facts = []Fact{{Name: "Resources", Value: "none that is known here"}}
	}
	return append(out, rest)
}

func (d *ClaimedDeployment) item() Item {
	it := Item{Title: "Worker " + d.Worker}
	add := func(name, value string, kind FactKind) {
		if value != "" {
			it.Facts = append(it.Facts, Fact{name, value, kind})
		}
	}
	add("Worker", d.Worker, FactText)
	add("Public address", d.URL, FactAddress)
	add("Deployed", d.CreatedAt.UTC().Format("2006-01-02 15:04 UTC"), FactText)
	add("Content (SHA-256)", d.Digest, FactCode)
	add("Version", d.VersionID, FactCode)
	add("Checked", d.checked(), FactText)
	for i, f := range d.Files {
		if i == maxItemFiles {
			add("Files", fmt.Sprintf("and %d more", len(d.Files)-maxItemFiles), FactText)
			break
		}
		add("File", fmt.Sprintf("%s (%d bytes)", f.Name, f.Bytes), FactText)
	}
	return it
}

// checked says in words what the last look at it saw.
func (d *ClaimedDeployment) checked() string {
	c := d.Check
	if c == nil {
		return "never"
	}
	if c.Status == 0 {
		return fmt.Sprintf("GET %s had no answer", c.Path)
	}
	verdict := "not as wanted"
	if c.OK {
		verdict = "as wanted"
	}
	return strings.TrimSpace(fmt.Sprintf("GET %s answered %d, %s (version %s) %s", c.Path, c.Status, verdict, c.Version, c.Error))
}

func resourceWords(kind string) string {
	switch kind {
	case ResourceKV:
		return "KV namespace"
	case ResourceD1:
		return "D1 database"
	case ResourceQueue:
		return "Queue"
	case ResourceObjects:
		return "Durable Object class"
	case ResourceCron:
		return "Cron trigger"
	case ResourceConsumer:
		return "Queue consumer"
	case ResourceSecret:
		return "Secret with its value"
	}
	return kind
}

// estate gathers what goes over with an account: deps are its deployments, newest first.
func (s *Service) estate(ctx context.Context, sess *Session, acct *Account, deps []Deployment) (Estate, error) {
	steps, err := s.cfg.Store.Steps(ctx, sess.ID)
	if err != nil {
		return Estate{}, err
	}
	foreign, err := s.foreignOn(ctx, acct)
	if err != nil {
		return Estate{}, err
	}
	deps = newestByWorker(deps)
	files, resources := map[string][]Sized{}, stored(steps, acct.ID)
	for _, d := range deps {
		a, err := s.cfg.Store.Artifact(ctx, sess.Principal, d.BundleID)
		if err != nil {
			continue // it is shown without; its digest stands all the same
		}
		files[d.ID] = filesOf(a)
		resources = append(resources, ofWorker(a)...)
	}
	return newEstate(deps, files, resources, foreign), nil
}

// stored are the resources that were made on an account and not deleted again, by the ledger.
func stored(steps []Step, account string) []ClaimedResource {
	var out []ClaimedResource
	for _, step := range steps {
		if step.AccountID != account {
			continue
		}
		kind, name, _ := strings.Cut(step.What, " ")
		same := func(r ClaimedResource) bool { return r.Type == kind && r.Name == name }
		switch {
		case step.Kind == StepCreateResource && step.State != StepFailed:
			out = append(slices.DeleteFunc(out, same), ClaimedResource{Type: kind, Name: name, Unsure: step.State != StepDone})
		case step.Kind == StepDelete && step.State == StepDone:
			out = slices.DeleteFunc(out, same)
		}
	}
	return out
}

// ofWorker are what a Worker has that goes with it: objects, triggers, secrets.
func ofWorker(a *Artifact) []ClaimedResource {
	var out []ClaimedResource
	add := func(kind, name string) { out = append(out, ClaimedResource{Type: kind, Name: name, Worker: a.Name}) }
	if r := a.Resources; r != nil {
		for _, class := range r.Classes() {
			add(ResourceObjects, class)
		}
		for _, c := range r.Crons {
			add(ResourceCron, c)
		}
		for _, c := range r.Consumers {
			add(ResourceConsumer, c.Queue)
		}
	}
	for _, b := range a.Bindings {
		if b.Type() == "secret_text" || b.fromEnv() != "" {
			add(ResourceSecret, b.Name())
		}
	}
	return out
}

// filesOf lists what an artifact uploads: modules but source maps, and static files.
func filesOf(a *Artifact) []Sized {
	var out []Sized
	for _, m := range a.Modules {
		if m.Type != TypeSourceMap {
			out = append(out, Sized{Name: m.Name, Bytes: int64(len(m.Content))})
		}
	}
	if a.Assets != nil {
		for _, f := range a.Assets.Files {
			out = append(out, Sized{Name: f.Path, Bytes: int64(len(f.Content))})
		}
	}
	return out
}

// custody says who can open an account's claim link: "sealed to KEY" for the holders of
// those keys alone, or "attended": whoever the page lets go on, by the rule of the yes.
func (a *Account) custody(y YesRule) string {
	switch {
	case len(a.SealedTo) > 0:
		return SealedTo(a.SealedTo)
	case SealedClaim(a.ClaimURL):
		return sealedTo + "a human's key"
	case y.Channels == nil:
		return "attended"
	case slices.Contains(y.Channels, ChannelConsole):
		return "attended, behind a login"
	}
	return "attended, behind a login with a passkey"
}

// sealedTo is how the words for a sealed claim link begin.
const sealedTo = "sealed to "

// SealedTo says in words which keys a claim link is sealed to, each by its short name.
func SealedTo(keys []string) string {
	short := make([]string, 0, len(keys))
	for _, k := range keys {
		short = append(short, ShortKey(k))
	}
	return sealedTo + strings.Join(short, ", ")
}

// ShortKey is a public key as people compare it: its beginning and its end.
func ShortKey(key string) string {
	const head, tail = 12, 6
	if len(key) <= head+tail+1 {
		return key
	}
	return key[:head] + "…" + key[len(key)-tail:]
}
