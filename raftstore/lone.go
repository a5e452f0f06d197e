package raftstore

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// lone is the transport of a node that has no peers: nobody calls, and calls
// reach nobody.
type lone struct {
	addr  raft.ServerAddress
	calls chan raft.RPC
}

var errNoPeers = errors.New("this node has no peers")

func newLone(addr raft.ServerAddress) *lone { return &lone{addr: addr, calls: make(chan raft.RPC)} }

func (l *lone) Consumer() <-chan raft.RPC                                  { return l.calls }
func (l *lone) LocalAddr() raft.ServerAddress                              { return l.addr }
func (l *lone) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }
func (l *lone) DecodePeer(b []byte) raft.ServerAddress                     { return raft.ServerAddress(b) }
func (l *lone) SetHeartbeatHandler(func(raft.RPC))                         {}

func (l *lone) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, errNoPeers
}

func (l *lone) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return errNoPeers
}

func (l *lone) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return errNoPeers
}

func (l *lone) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	return errNoPeers
}

func (l *lone) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errNoPeers
}

func (l *lone) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return errNoPeers
}

var (
	_ raft.Transport   = (*lone)(nil)
	_ raft.WithPreVote = (*lone)(nil)
)
