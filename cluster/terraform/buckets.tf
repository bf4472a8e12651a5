# Media, models and backups: private, encrypted, versions kept where a deletion must be undone.
locals {
  buckets = {
    # What was uploaded and never processed or finished goes by itself (cluster/connections/media/s3.py).
    media   = { versions = false, unfinished_days = 1, expires_days = { "quarantine/" = 2 } }
    models  = { versions = true, unfinished_days = 2, expires_days = {} }
    backups = { versions = true, unfinished_days = 2, expires_days = {} }
  }
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets
  bucket   = "${var.name}-${each.key}"
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = { for name, bucket in local.buckets : name => bucket if bucket.versions }
  bucket   = aws_s3_bucket.this[each.key].id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id
  rule {
    id     = "remains"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = each.value.unfinished_days
    }
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
  dynamic "rule" {
    for_each = each.value.expires_days
    content {
      id     = "expires-${trimsuffix(rule.key, "/")}"
      status = "Enabled"
      filter {
        prefix = rule.key
      }
      expiration {
        days = rule.value
      }
    }
  }
}
