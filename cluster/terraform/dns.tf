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
