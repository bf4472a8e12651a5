output "cluster" {
  description = "For aws eks update-kubeconfig"
  value       = aws_eks_cluster.this.name
}

output "buckets" {
  description = "Names for SUGAR_MEDIA__S3_BUCKET, SUGAR_RANKING__ARTIFACTS and the database's object store"
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "name_servers" {
  description = "To be entered at the domain's registrar"
  value       = aws_route53_zone.this.name_servers
}
