package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// masters is the size of a Cluster: the least that Redis allows.
const masters = 3

// Cluster is a running Redis Cluster of three masters without replicas.
type Cluster struct {
	nodes [masters]*clusterNode
}

// clusterNode is a Redis with a second port, on which nodes talk.
type clusterNode struct {
	*Redis

	bus int
}

// StartCluster starts a Redis Cluster and returns when every node says that
// all slots are served.
func StartCluster(ctx context.Context) (*Cluster, error) {
	var c Cluster

	starts, startCtx := errgroup.WithContext(ctx)
	for i := range c.nodes {
		starts.Go(func() (err error) {
			c.nodes[i], err = startClusterNode(startCtx)
			return err
		})
	}
	err := starts.Wait()
	if err == nil {
		err = c.join(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &c, nil
}

// startClusterNode starts a Redis that knows nobody and serves no slot yet.
func startClusterNode(ctx context.Context) (*clusterNode, error) {
	return again(func() (*clusterNode, error) {
		// Asked for by number, as the default, port + 10000, may be taken.
		bus, err := freePort()
		if err != nil {
			return nil, err
		}
		node, err := startRedis(ctx, []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus)})
		if err != nil {
			return nil, err
		}
		return &clusterNode{Redis: node, bus: bus}, nil
	})
}

// join deals out the slots, introduces the nodes to each other, and waits
// until each of them finds the cluster whole.
func (c *Cluster) join(ctx context.Context) error {
	const slots = 16_384

	for i, node := range c.nodes {
		err := node.take(ctx, i*slots/masters, (i+1)*slots/masters-1)
		if err == nil && i > 0 {
			err = node.meet(ctx, c.nodes[0])
		}
		if err != nil {
			return err
		}
	}
	for _, node := range c.nodes {
		err := node.ready(ctx, node.whole)
		if err != nil {
			return err
		}
	}
	return nil
}

// take makes the node serve the slots from first to last.
func (n *clusterNode) take(ctx context.Context, first, last int) error {
	client := redis.NewClient(&redis.Options{Addr: n.Addr()})
	defer client.Close()

	err := client.ClusterAddSlotsRange(ctx, first, last).Err()
	if err != nil {
		return fmt.Errorf("deal slots to %s: %w", n.Addr(), err)
	}
	return nil
}

// meet introduces the node to another.
func (n *clusterNode) meet(ctx context.Context, other *clusterNode) error {
	client := redis.NewClient(&redis.Options{Addr: n.Addr()})
	defer client.Close()

	err := client.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", other.port, other.bus).Err()
	if err != nil {
		return fmt.Errorf("introduce %s to %s: %w", n.Addr(), other.Addr(), err)
	}
	return nil
}

// whole is nil once the node sees every slot served and every master.
func (n *clusterNode) whole(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: n.Addr()})
	defer client.Close()

	info, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask %s for its cluster: %w", n.Addr(), err)
	}
	for _, want := range []string{"cluster_state:ok", fmt.Sprintf("cluster_size:%d", masters)} {
		if !strings.Contains(info, want+"\r\n") {
			return fmt.Errorf("%s does not say %s yet", n.Addr(), want)
		}
	}
	return nil
}

// Addrs are the addresses (host:port) of the masters.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, 0, masters)
	for _, node := range c.nodes {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Close ends every node.
func (c *Cluster) Close() error {
	var err error

	for _, node := range c.nodes {
		if node != nil {
			err = errors.Join(err, node.Close())
		}
	}
	return err
}
