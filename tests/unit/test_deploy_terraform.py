"""The machines, buckets and roles that Terraform makes are those that the platform needs."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from test_deploy_files import TERRAFORM

from configs.contracts.media import quarantine_key


def test_the_media_bucket_forgets_what_was_never_processed() -> None:
    text = (TERRAFORM / "buckets.tf").read_text()
    prefix = quarantine_key("").removesuffix("/") + "/"
    media = re.search(r"^\s*media\s*=\s*\{(.*)\}$", text, re.MULTILINE)
    assert media
    assert "unfinished_days = 1," in media.group(1)
    assert f'expires_days = {{ "{prefix}" = 2 }}' in media.group(1)
    assert "days_after_initiation = each.value.unfinished_days" in text
    assert "for_each = each.value.expires_days" in text


def test_the_driver_of_volumes_may_make_them() -> None:
    text = (TERRAFORM / "cluster.tf").read_text()
    driver = re.search(r'resource "aws_eks_addon" "volumes" \{.*?\n\}', text, re.DOTALL)
    assert driver
    assert '"aws-ebs-csi-driver"' in driver.group()
    assert "role_arn        = aws_iam_role.volumes.arn" in driver.group()
    assert "service-role/AmazonEBSCSIDriverPolicy" in text
    assert '"eks-pod-identity-agent"' in text, "hands pods their roles"


def test_network_policies_are_kept() -> None:
    text = (TERRAFORM / "cluster.tf").read_text()
    assert re.search(r'"vpc-cni"\s*=\s*jsonencode\(\{ enableNetworkPolicy = "true" \}\)', text), "without it nothing enforces them"


def test_addons_that_a_new_cluster_brings_are_taken_over() -> None:
    addons = re.findall(r'resource "aws_eks_addon" .*?\n\}', (TERRAFORM / "cluster.tf").read_text(), re.DOTALL)
    assert len(addons) == 2
    for addon in addons:
        for moment in ("create", "update"):
            assert re.search(rf'resolve_conflicts_on_{moment}\s*= "OVERWRITE"', addon), "what is there already is a conflict"


def test_the_autoscaler_may_change_the_groups_of_this_cluster_only() -> None:
    text = (TERRAFORM / "cluster.tf").read_text()
    policy = re.search(r'data "aws_iam_policy_document" "autoscaler" \{.*?\n\}', text, re.DOTALL)
    assert policy
    changing = policy.group().split("statement {")[2]
    assert '"autoscaling:SetDesiredCapacity"' in changing
    assert 'variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"' in changing
    assert 'service_account = "cluster-autoscaler"' in text


def test_certificates_of_the_edge_can_be_proved_by_dns() -> None:
    text = (TERRAFORM / "dns.tf").read_text()
    for part in ('"route53:ChangeResourceRecordSets"', '"route53:GetChange"', 'service_account = "cert-manager"'):
        assert part in text


@pytest.mark.skipif(shutil.which("terraform") is None, reason="needs terraform; elsewhere `terraform fmt -check -recursive` by hand")
def test_terraform_reads_the_files_and_finds_them_in_its_own_form() -> None:
    done = subprocess.run(["terraform", "fmt", "-check", "-diff", "-recursive", str(TERRAFORM)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
