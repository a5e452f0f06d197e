package raftstore

func childMain() bool { return false }
