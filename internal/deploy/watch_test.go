package deploy_test

import (
	"context"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func (m *memStore) KeepLogs(ctx context.Context, sessionID string, lines []deploy.LogLine, b deploy.LogBounds) (deploy.LogTally, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "KeepLogs"); err != nil {
		return deploy.LogTally{}, err
	}
	if m.logs == nil {
		m.logs, m.tallies = map[string][]deploy.LogLine{}, map[string]deploy.LogTally{}
	}
	fit, after := m.tallies[sessionID].Fit(lines, b)
	m.logs[sessionID], m.tallies[sessionID] = append(m.logs[sessionID], fit...), after
	return after, nil
}

func (m *memStore) Logs(ctx context.Context, sessionID string) ([]deploy.LogLine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.logs[sessionID]), m.begin(ctx, "Logs")
}

func (m *memStore) LogTally(ctx context.Context, sessionID string) (deploy.LogTally, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tallies[sessionID], m.begin(ctx, "LogTally")
}

func (m *memStore) SaveForeign(ctx context.Context, f deploy.ForeignChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveForeign"); err != nil {
		return err
	}
	if !slices.ContainsFunc(m.foreign, func(g deploy.ForeignChange) bool {
		return g.Target == f.Target && g.AccountID == f.AccountID && g.Worker == f.Worker && g.VersionID == f.VersionID
	}) {
		m.foreign = append(m.foreign, f)
	}
	return nil
}

func (m *memStore) Foreign(ctx context.Context, sessionID string) ([]deploy.ForeignChange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Foreign"); err != nil {
		return nil, err
	}
	var out []deploy.ForeignChange
	for _, f := range m.foreign {
		if f.SessionID == sessionID {
			out = append(out, f)
		}
	}
	return out, nil
}
