package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Recipients are the humans that claim links are sealed to (age, X25519). Whoever has
// this server's store and keys can't open what is sealed to them.
type Recipients struct {
	names []string
	keys  []age.Recipient
}

var _ deploy.ClaimSealer = (*Recipients)(nil)

// ParseRecipients reads age public keys ("age1…").
func ParseRecipients(texts []string) (*Recipients, error) {
	if len(texts) == 0 {
		return nil, errors.New("no public key was given")
	}
	r := &Recipients{}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
			return nil, errors.New("this is a private key, which is not repeated here: a recipient is the public key that belongs to it (age1…)")
		}
		key, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not an age public key of the kind age1…: `mcp-server claim-key new` makes one, as does age-keygen", shown(text))
		}
		r.names, r.keys = append(r.names, key.String()), append(r.keys, key)
	}
	return r, nil
}

// Recipients implements deploy.ClaimSealer.
func (r *Recipients) Recipients() []string { return r.names }

// claimLinkFormat is the first member of what is sealed.
const claimLinkFormat = "hourglass-claim-link/1"

// sealedLink is a claim link as it is sealed. It is never marshalled but for that.
type sealedLink struct {
	Format      string    `json:"format"`
	URL         string    `json:"url"`
	SessionID   string    `json:"session_id"`
	AccountID   string    `json:"account_id"`
	AccountName string    `json:"account_name"`
	Target      string    `json:"target"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// SealClaim implements deploy.ClaimSealer.
func (r *Recipients) SealClaim(l deploy.ClaimLink) (deploy.Secret, error) {
	if l.URL.Empty() || l.AccountID == "" {
		return "", errors.New("there is no claim link to seal")
	}
	plain, err := json.Marshal(sealedLink{claimLinkFormat, l.URL.Reveal(), l.SessionID, l.AccountID, l.AccountName, l.Target, l.ExpiresAt.UTC()})
	if err != nil {
		return "", fmt.Errorf("sealing a claim link: %w", err)
	}
	sealed, err := encrypt(plain, r.keys...)
	if err != nil {
		return "", fmt.Errorf("sealing a claim link: %w", err)
	}
	return deploy.Secret(sealed), nil
}

// encrypt gives age's armored form.
func encrypt(plain []byte, to ...age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// maxOpened bounds what sealed text may open to, in bytes.
const maxOpened = 64 << 10

func decrypt(sealed []byte, with ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), with...)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxOpened+1))
	if err != nil {
		return nil, err
	}
	if len(plain) > maxOpened {
		return nil, errors.New("it is too large")
	}
	return plain, nil
}

const (
	// minPassphrase is the shortest passphrase that an identity is made under, in bytes.
	minPassphrase = 10
	// workFactor is what scrypt costs: 2^18 rounds take about a second and 256 MiB, for us
	// as for who guesses. What others made may cost four times as much.
	workFactor    = 18
	maxWorkFactor = 20
)

// NewIdentity makes a key for a human: a file that only the passphrase opens (an age
// identity in an age file), and the public key to give to servers.
func NewIdentity(passphrase string) (file []byte, recipient string, err error) {
	return newIdentity(passphrase, workFactor)
}

func newIdentity(passphrase string, work int) (file []byte, recipient string, err error) {
	if len(passphrase) < minPassphrase {
		return nil, "", fmt.Errorf("a passphrase has at least %d characters: several words are easy to keep in mind and hard to guess", minPassphrase)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, "", fmt.Errorf("making a key: %w", err)
	}
	lock, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, "", fmt.Errorf("the passphrase: %w", err)
	}
	lock.SetWorkFactor(work)
	text := fmt.Sprintf("# opens claim links that are sealed to %s\n%s\n", id.Recipient(), id)
	if file, err = encrypt([]byte(text), lock); err != nil {
		return nil, "", fmt.Errorf("sealing the key: %w", err)
	}
	return file, id.Recipient().String(), nil
}

// Identity opens claim links. It prints as nothing.
type Identity struct{ keys []age.Identity }

// String says nothing of the key.
func (*Identity) String() string { return "[identity]" }

// GoString says nothing of the key.
func (*Identity) GoString() string { return "[identity]" }

// OpenIdentity reads an identity file: one that a passphrase seals, which is then asked
// for, or a plain age identity file.
func OpenIdentity(file []byte, passphrase func() (string, error)) (*Identity, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(file), []byte(armor.Header)) {
		return plainIdentity(file)
	}
	text, err := passphrase()
	if err != nil {
		return nil, err
	}
	lock, err := age.NewScryptIdentity(text)
	if err != nil {
		return nil, errors.New("a passphrase is needed")
	}
	lock.SetMaxWorkFactor(maxWorkFactor)
	plain, err := decrypt(bytes.TrimSpace(file), lock)
	if _, no := errors.AsType[*age.NoIdentityMatchError](err); no {
		return nil, errors.New("the passphrase does not open this key, or the file is sealed with something else than a passphrase")
	}
	if err != nil {
		return nil, fmt.Errorf("the key file can't be opened: %w", err)
	}
	return plainIdentity(plain)
}

// plainIdentity never repeats what it can't read.
func plainIdentity(text []byte) (*Identity, error) {
	keys, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(keys) == 0 {
		return nil, errors.New("this is no age identity file (AGE-SECRET-KEY-1…)")
	}
	return &Identity{keys}, nil
}

// OpenClaim opens a sealed claim link.
func (i *Identity) OpenClaim(sealed deploy.Secret) (*deploy.ClaimLink, error) {
	const next = "Ask whoever runs the server which public keys its claim links are sealed to (--claim-recipient)."
	if !deploy.SealedClaim(sealed) {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, next, "this is no sealed claim link")
	}
	plain, err := decrypt([]byte(sealed.Reveal()), i.keys...)
	if _, no := errors.AsType[*age.NoIdentityMatchError](err); no {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, next, "the claim link is not sealed to this key")
	}
	if err != nil {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, next, "the sealed claim link is damaged").Caused(err)
	}
	var l sealedLink
	if json.Unmarshal(plain, &l) != nil || l.Format != claimLinkFormat || l.URL == "" {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, next, "what was sealed is no claim link")
	}
	return &deploy.ClaimLink{
		URL: deploy.Secret(l.URL), SessionID: l.SessionID, AccountID: l.AccountID, AccountName: l.AccountName, Target: l.Target, ExpiresAt: l.ExpiresAt,
	}, nil
}
