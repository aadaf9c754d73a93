package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// claimLink finds the sandbox's own claim page, where a real account would lead to
// Cloudflare's.
var claimLink = regexp.MustCompile(`https?://[^\s"'<>]*claim-preview\?[^\s"'<>]*`)

// humanGet reads a page as a browser would.
func humanGet(ctx context.Context, human *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", address, err)
	}
	return humanDo(human, req)
}

// humanPost presses a button of a page as a browser would.
func humanPost(ctx context.Context, human *http.Client, address string, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
	_, err = humanDo(human, req)
	return err
}

func humanDo(human *http.Client, req *http.Request) (string, error) {
	resp, err := human.Do(req)
	if err != nil {
		return "", fmt.Errorf("the page: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("the page: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return "", fmt.Errorf("the page answered %d", resp.StatusCode)
	}
	return string(body), nil
}

// claim plays the human at the claim page: on the real API, Cloudflare's dashboard.
func (s *story) claim(ctx context.Context) (string, error) {
	human := &http.Client{}
	page, err := humanGet(ctx, human, s.claimPage)
	if err != nil {
		return "", err
	}
	if !strings.Contains(page, "hello-demo") {
		return "", errors.New("the claim page does not name the Worker")
	}
	if err := humanPost(ctx, human, s.claimPage, url.Values{}); err != nil {
		return "", err
	}
	accounts, err := s.accounts(ctx)
	if err != nil {
		return "", err
	}
	claimed := 0
	for _, a := range accounts {
		if a.Claimed {
			claimed++
		}
	}
	if claimed != 1 {
		return "", fmt.Errorf("%d accounts are claimed, not 1", claimed)
	}
	return "(the demo plays the human) claimed the account at the sandbox's claim page", nil
}

// boxAccount is an account as the sandbox's management port shows it.
type boxAccount struct {
	ID        string `json:"id"`
	Subdomain string `json:"subdomain"`
	APIToken  string `json:"api_token"`
	Claimed   bool   `json:"claimed"`
}

func (s *story) accounts(ctx context.Context) ([]boxAccount, error) {
	var out []boxAccount
	return out, s.manage(ctx, http.MethodGet, "/accounts", nil, &out)
}

// manage asks the sandbox's management port.
func (s *story) manage(ctx context.Context, method, path string, body, out any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("a request to the sandbox: %w", err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.urls.Manage+path, in)
	if err != nil {
		return fmt.Errorf("a request to the sandbox: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the sandbox's management port: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the sandbox's management port answered %d (%w)", resp.StatusCode, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("the sandbox's management port: %w", err)
	}
	return nil
}

// expire moves the sandbox's clock past the hour: the claimed account lives on, the
// other one stops serving and its token stops working.
func (s *story) expire(ctx context.Context) (string, error) {
	const pastTheHour = 61 * 60
	if err := s.manage(ctx, http.MethodPost, "/clock", map[string]any{"advance_seconds": pastTheHour}, nil); err != nil {
		return "", err
	}
	if status, body, err := s.get(ctx, s.kept.URL); err != nil || status != http.StatusOK {
		return "", fmt.Errorf("the claimed Worker does not live on: %d %q (%w)", status, body, err)
	}
	status, _, err := s.get(ctx, s.lost.URL)
	if err != nil || status != http.StatusGone {
		return "", fmt.Errorf("the unclaimed Worker answers %d, not 410 (%w)", status, err)
	}
	tokens, err := s.deadTokens(ctx)
	if err != nil {
		return "", err
	}
	if err := s.toldExpired(ctx); err != nil {
		return "", err
	}
	s.rep.ExpiredOK = true
	return fmt.Sprintf("claimed: still serves; unclaimed: 410, its token is refused (%d tried), status says expired", tokens), nil
}

// deadTokens tries the unclaimed account's token against the API.
func (s *story) deadTokens(ctx context.Context) (int, error) {
	accounts, err := s.accounts(ctx)
	if err != nil {
		return 0, err
	}
	tried := 0
	for _, a := range accounts {
		if a.Claimed {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.urls.API+"/accounts/"+a.ID+"/workers/subdomain", nil)
		if err != nil {
			return 0, fmt.Errorf("asking the API: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+a.APIToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("asking the API: %w", err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < http.StatusBadRequest {
			return 0, fmt.Errorf("a token of an expired account still works: HTTP %d", resp.StatusCode)
		}
		tried++
	}
	if tried == 0 {
		return 0, errors.New("there is no unclaimed account left to try")
	}
	return tried, nil
}

func (s *story) toldExpired(ctx context.Context) error {
	var st struct {
		Sessions []struct {
			Phase string `json:"phase"`
		} `json:"sessions"`
	}
	if err := s.call(ctx, "status", map[string]any{"session_id": s.lost.SessionID}, &st); err != nil {
		return err
	}
	if len(st.Sessions) != 1 || st.Sessions[0].Phase != "expired" {
		return fmt.Errorf("status does not say expired: %s", pretty(st))
	}
	return nil
}
