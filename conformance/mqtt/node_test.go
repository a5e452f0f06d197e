package mqtt

import "fmt"

// nodeBuilt turns true with package node; until then missing statements are
// reported and do not fail the run.
const nodeBuilt = false

// startNode starts a Lacewing node in this process.
func startNode(settings map[string]string) (*broker, error) {
	return nil, fmt.Errorf("%w: package node is not part of this tree yet; set LACEWING_CONFORMANCE_ADDR", errSettings)
}

// The account of authBroker.
const (
	testUser = "conformance"
	testPass = "pencil and paper"
)
