package cloudflare

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"
	"lukechampine.com/blake3"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	doingSession = "comparing the static files with the account's"
	doingAssets  = "uploading static files"
	// bucketsAtOnce is how many groups of files travel at the same time (section 9).
	bucketsAtOnce = 3
)

// manifestRow is what the API is told of one file.
type manifestRow struct {
	Hash string `json:"hash"`
	Size int    `json:"size"`
}

// assetHash names a file's content (section 9): the first 32 hex digits of the BLAKE3
// of its base64 text and its extension.
func assetHash(f deploy.Asset) string {
	h := blake3.New(16, nil) // the first 16 bytes of any length of output
	enc := base64.NewEncoder(base64.StdEncoding, h)
	// a hash takes every write
	_, _ = enc.Write(f.Content)
	_ = enc.Close()
	_, _ = io.WriteString(h, extension(f.Path))
	return hex.EncodeToString(h.Sum(nil))
}

// extension is what Node's path.extname gives, without the dot: case is kept; a name
// that only begins with a dot has none.
func extension(path string) string {
	base := path[strings.LastIndexByte(path, '/')+1:]
	i := strings.LastIndexByte(base, '.')
	if i <= 0 || base == ".." {
		return ""
	}
	return base[i+1:]
}

// uploadAssets brings the files that the account lacks there and gives the completion
// token, which the upload's metadata carries. It counts files in out.
func (c *Client) uploadAssets(ctx context.Context, acct *deploy.Account, a *deploy.Artifact, out *deploy.Uploaded) (string, error) {
	manifest := make(map[string]manifestRow, len(a.Assets.Files))
	byHash := make(map[string]deploy.Asset, len(a.Assets.Files)) // the first path decides the type
	hashes := make([]string, len(a.Assets.Files))
	for i, f := range a.Assets.Files {
		hash := assetHash(f)
		hashes[i] = hash
		manifest[f.Path] = manifestRow{hash, len(f.Content)}
		if _, twice := byHash[hash]; !twice {
			byHash[hash] = f
		}
	}
	token, buckets, err := c.assetSession(ctx, acct, a.Name, manifest)
	if err != nil {
		return "", err
	}
	wanted := map[string]bool{}
	for _, hash := range slices.Concat(buckets...) {
		if _, ours := byHash[hash]; !ours {
			return "", missing(doingSession, "a requested file")
		}
		wanted[hash] = true
	}
	for _, hash := range hashes {
		if wanted[hash] {
			out.AssetsSent++
		} else {
			out.AssetsKept++
		}
	}
	if len(wanted) == 0 {
		return token, nil
	}
	// The completion token is a secret: the step's result has no name.
	return step(ctx, c, deploy.StepUploadAssets, a.Name, func() (string, string, error) {
		completed, err := c.sendBuckets(ctx, acct, token, buckets, byHash)
		return completed, "", err
	})
}

// assetSession asks which files the account lacks: a token, and their hashes in
// groups. Without any, the token is the completion token already.
func (c *Client) assetSession(ctx context.Context, acct *deploy.Account, worker string, manifest map[string]manifestRow) (string, [][]string, error) {
	body, err := json.Marshal(map[string]any{"manifest": manifest})
	if err != nil {
		return "", nil, internal(err)
	}
	result, err := c.call(ctx, try{doing: doingSession, timeout: c.cfg.Timeout, repeat: true}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptAssetUploadNewParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		opts = append(opts, option.WithRequestBody("application/json", bytes.NewReader(body)))
		_, err := workers.NewScriptAssetUploadService(c.with(acct)...).New(ctx, worker, params, opts...)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	var in struct {
		JWT     string     `json:"jwt"`
		Buckets [][]string `json:"buckets"`
	}
	decodeErr := json.Unmarshal(result, &in)
	c.learn(in.JWT)
	if decodeErr != nil || !bearer(in.JWT) {
		return "", nil, missing(doingSession, "jwt or buckets")
	}
	return in.JWT, in.Buckets, nil
}

// sendBuckets uploads the groups, some at once. The last token that an answer holds
// is the completion token: the API gives it with whichever answer completes the set.
func (c *Client) sendBuckets(ctx context.Context, acct *deploy.Account, token string, buckets [][]string, files map[string]deploy.Asset) (string, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		group     sync.WaitGroup
		mu        sync.Mutex
		first     error
		completed string
	)
	queue := make(chan []string, len(buckets))
	for _, b := range buckets {
		if len(b) > 0 {
			queue <- b
		}
	}
	close(queue)
	for range bucketsAtOnce {
		group.Go(func() {
			for bucket := range queue {
				jwt, err := c.sendBucket(ctx, acct, token, bucket, files)
				mu.Lock()
				if err != nil && first == nil {
					first = err
					stop()
				}
				if jwt != "" {
					completed = jwt
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	if first != nil {
		return "", first
	}
	if completed == "" {
		return "", missing(doingAssets, "the completion token")
	}
	return completed, nil
}

// sendBucket uploads one group with the session's token, not the account's.
func (c *Client) sendBucket(ctx context.Context, acct *deploy.Account, token string, bucket []string, files map[string]deploy.Asset) (string, error) {
	contentType, body, err := bucketBody(bucket, files)
	if err != nil {
		return "", internal(err)
	}
	result, err := c.trying(ctx, try{doing: doingAssets, timeout: c.cfg.UploadTimeout, repeat: true}, func(ctx context.Context) (*answer, error) {
		return c.postBucket(ctx, acct, token, contentType, body)
	})
	if err != nil {
		return "", err
	}
	var in struct {
		JWT string `json:"jwt"`
	}
	if len(result) > 0 && json.Unmarshal(result, &in) != nil {
		return "", missing(doingAssets, "jwt")
	}
	c.learn(in.JWT)
	return in.JWT, nil
}

// postBucket is plain net/http: the SDK's own call encodes its parameters, although
// they are replaced, and its encoder of maps is not safe for use by several goroutines
// (cloudflare-go v7.9.0, found by the race detector).
func (c *Client) postBucket(ctx context.Context, acct *deploy.Account, token, contentType string, body []byte) (*answer, error) {
	url := c.base.String() + "/accounts/" + acct.ID + "/workers/assets/upload?base64=true"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, internal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err //nolint:wrapcheck // it is worded by who knows the call
	}
	return readAnswer(res)
}

// bucketBody writes the files of a group as wrangler does: part and file name are the
// hash, the content is base64.
func bucketBody(bucket []string, files map[string]deploy.Asset) (contentType string, body []byte, err error) {
	size := 1024
	for _, hash := range bucket {
		size += base64.StdEncoding.EncodedLen(len(files[hash].Content)) + 512
	}
	buf := bytes.NewBuffer(make([]byte, 0, size))
	w := multipart.NewWriter(buf)
	for _, hash := range bucket {
		f := files[hash]
		text := base64.StdEncoding.AppendEncode(nil, f.Content)
		disposition := fmt.Sprintf(`form-data; name="%s"; filename="%s"`, hash, hash)
		if err := writePart(w, disposition, mediaType(f.Path), text); err != nil {
			return "", nil, err
		}
	}
	if err := w.Close(); err != nil {
		return "", nil, fmt.Errorf("multipart body: %w", err)
	}
	return w.FormDataContentType(), buf.Bytes(), nil
}
