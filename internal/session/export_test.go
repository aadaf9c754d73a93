package session

// NewIdentityFast is NewIdentity with a passphrase that is quick to try, for tests.
func NewIdentityFast(passphrase string) (file []byte, recipient string, err error) {
	return newIdentity(passphrase, 10)
}
