"""Connections to Postgres notice a peer that has gone silent."""

from __future__ import annotations

import socket

from sqlalchemy import Engine

from workers.settings import Settings


def test_a_silent_peer_is_noticed_within_a_lease(database: Engine) -> None:
    with database.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        with socket.fromfd(raw.fileno(), socket.AF_INET, socket.SOCK_STREAM) as peer:
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, interval, count, unacknowledged = (
                peer.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )
    assert idle + interval * count < Settings().lease_seconds
    assert unacknowledged / 1000 < Settings().lease_seconds
