"""A node's name is read strictly: whatever is nearly one is nobody's."""

import pytest

from ottla.secure.names import CertificateError, NodeName, check_client_name, node_name

CLUSTER = "7987e7f1c3fd6a727987e7f1c3fd6a72"


def test_a_nodes_name_there_and_back() -> None:
    name = NodeName(2, CLUSTER)
    assert str(name) == f"node-2.{CLUSTER}.ottla.internal"
    assert node_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "node-2",
        f"node-02.{CLUSTER}.ottla.internal",
        f"node-0.{CLUSTER}.ottla.internal",
        f"node--2.{CLUSTER}.ottla.internal",
        f"node-2.{CLUSTER}.ottla.internal.",
        f"node-2.{CLUSTER}.ottla.internal\n",
        f"node-2.{CLUSTER.upper()}.ottla.internal",
        f"node-2.{CLUSTER[1:]}.ottla.internal",
        f"node-2147483648.{CLUSTER}.ottla.internal",
        f"node-٢.{CLUSTER}.ottla.internal",
        f"x.node-2.{CLUSTER}.ottla.internal",
        f"*.{CLUSTER}.ottla.internal",
        f"node-2.{CLUSTER}.ottlaXinternal",
    ],
)
def test_what_is_nearly_a_nodes_name_is_nobodys(text: str) -> None:
    assert node_name(text) is None


@pytest.mark.parametrize("name", ["", "node-1", "NODE-7x", "ca", "../x", "a/b", "a b", ".hidden", "x" * 65, "é"])
def test_a_client_is_not_called_as_a_node_nor_as_a_path(name: str) -> None:
    with pytest.raises(CertificateError):
        check_client_name(name)


def test_usual_names_of_clients() -> None:
    assert [check_client_name(name) for name in ("admin", "svc.billing-2", "kim@example.com")]
