package deploy

// CrashPoints names every place at which a build with the tag "crash" can be told to
// die by HOURGLASS_CRASH_AT, so that a test can walk them all. Around each remote step:
// before it is written down, once it is, once it was taken, and once it is settled.
func CrashPoints() []string {
	points := []string{
		"before/SaveSession", "after/SaveSession",
		"before/SaveArtifact", "after/SaveArtifact",
		"before/SaveDeployment", "after/SaveDeployment",
		"before/SaveChecked", "after/SaveChecked", "before/Discard", "after/Discard",
	}
	for _, kind := range []StepKind{
		StepCreateAccount, StepCreateResource, StepApplyMigration, StepUploadAssets,
		StepUploadScript, StepEnableRoute, StepSetTrigger, StepDelete, StepDiscard,
	} {
		for _, when := range []string{crashBefore, crashBegun, crashTaken, crashSettled} {
			points = append(points, when+string(kind))
		}
	}
	return points
}

// What goes before a kind of step in the name of a crash point.
const (
	crashBefore  = "before/"
	crashBegun   = "begun/"
	crashTaken   = "taken/"
	crashSettled = "settled/"
)
