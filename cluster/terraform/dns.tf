resource "aws_route53_zone" "this" {
  name = var.domain
}

# Only this authority issues certificates for the domain (cluster/k8s/kustomization.yaml names the issuer).
resource "aws_route53_record" "authorities" {
  zone_id = aws_route53_zone.this.zone_id
  name    = var.domain
  type    = "CAA"
  ttl     = 3600
  records = ["0 issue \"letsencrypt.org\""]
}

# cert-manager proves to the authority that the domain is ours.
data "aws_iam_policy_document" "certificates" {
  statement {
    actions   = ["route53:GetChange"]
    resources = ["arn:aws:route53:::change/*"]
  }
  statement {
    actions   = ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"]
    resources = [aws_route53_zone.this.arn]
  }
  statement {
    actions   = ["route53:ListHostedZonesByName"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "certificates" {
  name               = "${var.name}-certificates"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_pods.json
}

resource "aws_iam_role_policy" "certificates" {
  name   = "route53"
  role   = aws_iam_role.certificates.id
  policy = data.aws_iam_policy_document.certificates.json
}

resource "aws_eks_pod_identity_association" "certificates" {
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "cert-manager"
  service_account = "cert-manager"
  role_arn        = aws_iam_role.certificates.arn
}

# The edge's address is known once its load balancer stands (docs/operations.md).
variable "edge_hostname" {
  description = "Name of the edge's load balancer; empty: not there yet"
  type        = string
  default     = ""
}

resource "aws_route53_record" "edge" {
  for_each = var.edge_hostname == "" ? toset([]) : toset(["api", "rt"])
  zone_id  = aws_route53_zone.this.zone_id
  name     = "${each.key}.${var.domain}"
  type     = "CNAME"
  ttl      = 300
  records  = [var.edge_hostname]
}
